import ArgumentParser

/// What a number stands for.
enum FuzzKind: String, CaseIterable, ExpressibleByArgument {
  /// Guests on the engine.
  case differential, parallel, machine
  /// Damaged qcow2 images, and drivers that misuse a device.
  case image, device

  static func of(_ seed: UInt64) -> FuzzKind {
    switch seed % 16 {
    case 12: .image
    case 13: .device
    case 14: .parallel
    case 15: .machine
    default: .differential
    }
  }

  /// Throws what went wrong; returns about how many instructions ran.
  func run(_ seed: UInt64) throws -> Int {
    CrashReport.note("\(title(seed)): the process died or hangs\n  \(command(seed))\n")
    let scenario = Scenario(seed: seed)
    return switch self {
    case .image: try ImageRun(seed: seed).run()
    case .device: try DeviceRun(seed: seed).run()
    case .differential: try Differential(scenario: scenario).run()
    case .parallel: try ParallelRun(scenario: scenario).run()
    case .machine: try MachineRun(scenario: scenario).run()
    }
  }

  func title(_ seed: UInt64) -> String {
    switch self {
    case .image: "image \(seed)"
    case .device: "device \(seed)"
    default: Scenario(seed: seed).title
    }
  }

  func command(_ seed: UInt64) -> String { "make fuzz SEED=\(seed) ARGS='--count 1 --kind \(rawValue)'" }
}
