import Machine
import Memory
import TestSupport

/// Runs a guest instruction by instruction and then in one go, and compares.
///
/// Both ways begin with the same state and must pass through the same exits with the same states. Going by instructions,
/// the engine decodes blocks of one and finds each anew; in one go it runs blocks of many, linked to each other. The
/// engine counts exceptions as instructions as far as its budget goes, so "after `n`" is the same moment both ways.
///
/// A chaotic guest, or one that has changed its paging, may do different things: when a translation is forgotten is the
/// processor's affair. Such a guest is only run, and has to be the same when it is run the same way again.
struct Differential {
  let scenario: Scenario

  /// Throws the first failure. Returns how many instructions ran.
  func run() throws -> Int {
    let stepwise = try GuestRun(scenario)
    let trace = try GuestTrace(stepwise, recordsAll: false)
    let isComparable = !scenario.isChaotic && stepwise.keepsPaging
    if scenario.seed % 4 == 0 || !isComparable {
      let again = try GuestRun(scenario)
      let other = try GuestTrace(again, recordsAll: false)
      if let difference = StateDifference.between(trace.end, other.end) ?? memory(stepwise, again) {
        throw GuestFailure("the same guest ends in another state:\n\(difference)")
      }
    }
    let atOnce = try GuestRun(scenario)
    var difference = try follow(trace, atOnce, stepwise, until: trace.last)
    difference = difference ?? StateDifference.between(trace.end, atOnce.bench.snapshot) ?? memory(stepwise, atOnce)
    if isComparable, let difference {
      throw GuestFailure("in one go it goes another way: \(difference)\n\(try locate(trace))")
    }
    return Int(truncatingIfNeeded: stepwise.bench.cpu.pointee.instructionCount &* 2)
  }

  private func memory(_ first: GuestRun, _ second: GuestRun) -> String? {
    StateDifference.between(first.bench.memory, second.bench.memory)
  }

  /// In one go as far as possible, or in chunks of any size, to the given moment. Returns how its exits differ.
  private func follow(
    _ trace: GuestTrace, _ run: GuestRun, _ stepwise: GuestRun, until limit: GuestTrace.Moment
  ) throws -> String? {
    var random = SeededRandom(seed: scenario.seed)
    let hasChunks = scenario.seed % 3 == 0
    var waiting = trace.disturbances[...]
    for exit in 0...limit.exit {
      let count = exit == limit.exit ? limit.steps : trace.segments[exit]
      var steps = 0
      while true {
        // What happens to the guest at its last moment comes behind it.
        if exit == limit.exit, steps == count { return nil }
        while let next = waiting.first, next.moment == GuestTrace.Moment(exit: exit, steps: steps) {
          run.disturb(next.disturbance)
          waiting.removeFirst()
        }
        if steps == count { break }
        var goal = count
        if let next = waiting.first, next.moment.exit == exit { goal = min(goal, next.moment.steps) }
        if hasChunks { goal = min(goal, steps + 1 + random.below(20)) }
        if try !run.run(goal - steps) { return "\(run.exits[exit]) came up to \(goal - steps) steps early" }
        steps = goal
        // Forgetting code is nothing that a guest can see.
        if hasChunks, random.oneIn(8) { run.bench.engine.invalidate(0..<Layout.memorySize) }
      }
      // The step that brings the exit.
      if try run.run(1) { return "no exit came where stepwise came \(stepwise.exits[exit])" }
      if run.exits[exit] != stepwise.exits[exit] { return "\(run.exits[exit]) instead of \(stepwise.exits[exit])" }
      if let difference = StateDifference.between(trace.states[exit], run.bench.snapshot) {
        return "exit \(exit), \(run.exits[exit]):\n\(difference)"
      }
    }
    return nil
  }

  /// Finds the first step after which the states differ, by running the guest again up to ever closer moments.
  private func locate(_ trace: GuestTrace) throws -> String {
    let stepwise = try GuestRun(scenario)
    let all = try GuestTrace(stepwise, recordsAll: true)
    func difference(_ index: Int) throws -> String? {
      let run = try GuestRun(scenario)
      return try follow(all, run, stepwise, until: all.moments[index].moment)
        ?? StateDifference.between(all.moments[index].state, run.bench.snapshot)
    }
    var (good, bad) = (-1, all.moments.count - 1)
    guard let last = try difference(bad) else { return "  The registers are the same at each step." }
    var text = last
    while bad - good > 1 {
      let middle = (good + bad) / 2
      if let found = try difference(middle) {
        (bad, text) = (middle, found)
      } else {
        good = middle
      }
    }
    let way = all.moments[max(0, bad - 3)..<bad].map { StateDifference.place($0.state, stepwise.bench.memory) }
    let events = all.disturbances.map { "  \($0.disturbance.kind) at \($0.moment)\n" }.joined()
    return "\(events)  first after step \(bad) (\(all.moments[bad].moment)), behind\n    "
      + "\(way.joined(separator: "\n    ")):\n\(text)"
  }
}
