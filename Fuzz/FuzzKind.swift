import ArgumentParser

/// What is done with a guest.
enum FuzzKind: String, CaseIterable, ExpressibleByArgument {
  case differential, parallel, machine

  static func of(_ seed: UInt64) -> FuzzKind {
    switch seed % 16 {
    case 14: .parallel
    case 15: .machine
    default: .differential
    }
  }

  /// Throws what went wrong; returns about how many instructions ran.
  func run(_ seed: UInt64) throws -> Int {
    let scenario = Scenario(seed: seed)
    CrashReport.note("\(scenario.title): the process died or hangs\n  \(command(seed))\n")
    return switch self {
    case .differential: try Differential(scenario: scenario).run()
    case .parallel: try ParallelRun(scenario: scenario).run()
    case .machine: try MachineRun(scenario: scenario).run()
    }
  }

  func command(_ seed: UInt64) -> String { "make fuzz SEED=\(seed) ARGS='--count 1 --kind \(rawValue)'" }
}
