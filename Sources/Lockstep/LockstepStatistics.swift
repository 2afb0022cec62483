/// What was compared.
public struct LockstepStatistics: Sendable, Equatable, CustomStringConvertible {
  public var windows: UInt64 = 0
  public var instructions: UInt64 = 0
  public var memoryComparisons: UInt64 = 0
  /// Windows at whose end flags differed that the last instructions leave undefined, by the instruction's name.
  public var undefinedFlags: [String: UInt64] = [:]
  /// Windows at whose end flags differed that none of the last instructions writes.
  public var unexplainedFlags: UInt64 = 0

  public init() {}

  public var description: String {
    let total = undefinedFlags.values.reduce(0, +)
    let names = undefinedFlags.sorted { ($1.value, $0.key) < ($0.value, $1.key) }.map { "\($0.key) \($0.value)" }
    let culprits = names.isEmpty ? "" : " (\(names.joined(separator: ", ")))"
    return "lockstep: \(instructions) instructions in \(windows) windows compared, memory \(memoryComparisons) times; "
      + "flags differed \(total) times where they are undefined\(culprits), "
      + "and \(unexplainedFlags) times for no known reason"
  }
}
