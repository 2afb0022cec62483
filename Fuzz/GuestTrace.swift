import Machine

/// What a guest did instruction by instruction.
struct GuestTrace {
  /// After `steps` budgets of 1 that came after exit number `exit`.
  struct Moment: Equatable {
    var exit: Int
    var steps: Int
  }

  /// The states at exits.
  private(set) var states: [[UInt8]] = []
  /// How many steps came before each exit, and after the last.
  private(set) var segments: [Int] = []
  private(set) var disturbances: [(moment: Moment, disturbance: Scenario.Disturbance)] = []
  /// The state after each step, if all are wanted.
  private(set) var moments: [(moment: Moment, state: [UInt8])] = []
  private(set) var end: [UInt8] = []

  /// A guest that leaves its engine as often does nothing else any more.
  static let mostExits = 400

  var last: Moment { Moment(exit: segments.count - 1, steps: segments[segments.count - 1]) }

  /// Runs a guest to its end.
  init(_ run: GuestRun, recordsAll: Bool) throws {
    var steps = 0
    var waiting = run.scenario.disturbances[...]
    guest: for time in 0..<Scenario.duration {
      while let next = waiting.first, next.time <= time {
        disturbances.append((Moment(exit: run.exits.count, steps: steps), next))
        run.disturb(next)
        waiting.removeFirst()
      }
      while try !run.run(1) {
        segments.append(steps)
        states.append(run.bench.snapshot)
        steps = 0
        if run.hasEnded || run.exits.count == Self.mostExits { break guest }
      }
      steps += 1
      if recordsAll { moments.append((Moment(exit: run.exits.count, steps: steps), run.bench.snapshot)) }
    }
    segments.append(steps)
    end = run.bench.snapshot
  }
}
