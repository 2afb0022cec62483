import Machine

/// Stands for the processors behind an interrupt controller: remembers what they were told.
public final class RecordedTarget: InterruptTarget {
  public enum Event: Equatable {
    case interruptsChanged(cpu: Int)
    case nonMaskableInterrupt(cpu: Int)
    case initialize(cpu: Int)
    case startUp(cpu: Int, vector: UInt8)
  }

  public private(set) var events: [Event] = []

  public init() {}

  public func interruptsChanged(cpu: Int) { events.append(.interruptsChanged(cpu: cpu)) }
  public func nonMaskableInterrupt(cpu: Int) { events.append(.nonMaskableInterrupt(cpu: cpu)) }
  public func initialize(cpu: Int) { events.append(.initialize(cpu: cpu)) }
  public func startUp(cpu: Int, vector: UInt8) { events.append(.startUp(cpu: cpu, vector: vector)) }

  /// What came since the last call.
  public func takeEvents() -> [Event] {
    defer { events = [] }
    return events
  }
}
