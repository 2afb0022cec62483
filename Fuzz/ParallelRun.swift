import Host
import Machine
import Memory
import Processor
import Synchronization
import TestSupport

/// Two processors in one memory, each with its own guest's state over the same code and data: they write into each
/// other's code and tables. Nothing is compared; both must keep to the invariants, and come back when they are asked to.
struct ParallelRun {
  let scenario: Scenario

  private static let rounds = 60
  private static let budget = 400

  func run() throws -> Int {
    let memory = try GuestMemory(size: Layout.memorySize)
    let codeWatch = CodeWatch(memory: memory)
    let benches = (0..<2).map { _ in GuestBench(memory: memory, scenario: scenario, codeWatch: codeWatch) }
    for (number, bench) in benches.enumerated() {
      // The second processor's tables and code take the first one's place, which then runs the same code elsewhere.
      scenario.install(in: memory, &bench.cpu.pointee)
      bench.cpu.pointee.rip &+= UInt64(number)
      bench.engine.stateChanged(&bench.cpu.pointee)
    }
    let failure = Mutex<String?>(nil)
    let threads = try benches.map { bench in
      try HostThread.start("cpu") { [scenario] in
        do {
          try Self.drive(bench, scenario)
        } catch {
          failure.withLock { $0 = "\(error)" }
        }
      }
    }
    for thread in threads { thread.join() }
    if let text = failure.withLock({ $0 }) { throw GuestFailure("of two processors, \(text)") }
    return benches.map { Int($0.cpu.pointee.instructionCount) }.reduce(0, +)
  }

  private static func drive(_ bench: GuestBench, _ scenario: Scenario) throws {
    var random = SeededRandom(seed: scenario.seed ^ UInt64(UInt(bitPattern: bench.cpu)))
    for number in 0..<rounds {
      let before = bench.cpu.pointee.instructionCount
      let exit = try bench.engine.run(&bench.cpu.pointee, budget: UInt64(budget))
      if bench.cpu.pointee.instructionCount &- before > UInt64(budget) { throw GuestFailure("the budget was exceeded") }
      if let violation = Invariants.violation(bench.cpu.pointee) { throw GuestFailure("\(violation), at exit \(exit)") }
      if bench.hasLostCanary { throw GuestFailure("memory around the state was written") }
      bench.cpu.pointee.completion.data = scenario.answer(number)
      bench.cpu.pointee.completion.isValid = exit.cause.isQuestion ? 1 : 0
      if exit == .shutdown || exit == .halt {
        // A new start.
        bench.cpu.pointee.activity = .running
        bench.cpu.pointee.rip = UInt64(Layout.code + random.below(Layout.codeSize))
      }
      if random.oneIn(4) { bench.cpu.pointee.interruptPending = 1 }
      if random.oneIn(4) { bench.engine.invalidate(UInt64(Layout.code)..<UInt64(Layout.code + 64)) }
    }
  }
}

extension VMExit.Cause {
  /// Whether the exit asks for an answer.
  var isQuestion: Bool {
    switch self {
    case .portRead, .memoryRead, .msrRead, .msrWrite, .timeStampRead, .randomRead: true
    default: false
    }
  }
}
