/// Kinds of machine events, for subscribing.
public struct EventMask: OptionSet, Sendable {
  public let rawValue: UInt32
  public init(rawValue: UInt32) { self.rawValue = rawValue }

  /// Every exit from an engine, before it is handled.
  public static let exit = EventMask(rawValue: 1 << 0)
  public static let portAccess = EventMask(rawValue: 1 << 1)
  /// Accesses to memory that is not RAM.
  public static let memoryAccess = EventMask(rawValue: 1 << 2)
  /// External interrupts on their way into a processor.
  public static let interrupt = EventMask(rawValue: 1 << 3)
  /// A processor shut down by a triple fault.
  public static let shutdown = EventMask(rawValue: 1 << 4)
  /// The whole machine: paused, resumed, reset, ended.
  public static let lifecycle = EventMask(rawValue: 1 << 5)
  /// The guest has crashed and says so, or its watchdog has.
  public static let failure = EventMask(rawValue: 1 << 6)
  /// All that an access to a device makes.
  public static let accesses: EventMask = [.exit, .portAccess, .memoryAccess]
  public static let all: EventMask = [
    .exit, .portAccess, .memoryAccess, .interrupt, .shutdown, .lifecycle, .failure,
  ]
}
