import Machine

/// A port by which a guest's kernel tells that it has crashed: QEMU's pvpanic device (QEMU, docs/specs/pvpanic), which Linux
/// and Windows have drivers for.
///
/// A read gives the events that the device knows, one bit each; writing a bit says that the event has happened.
///
/// Region 0: one port (0x505).
public final class PanicPort: Device {
  /// The port remembers nothing.
  public struct State: Codable, Equatable, Sendable {}

  private enum Event {
    static let panicked: UInt8 = 1 << 0
    /// The guest has crashed, and a crash kernel of its own takes over.
    static let crashLoaded: UInt8 = 1 << 1
    static let all = panicked | crashLoaded
  }

  public let name = "panic-port"
  private var platform: DevicePlatform?
  private var errors = GuestErrorLog(device: "panic-port")

  public init() {}

  public func attach(to platform: DevicePlatform) {
    self.platform = platform
    errors.start(platform.log)
  }

  public func reset() {}

  public func read(region: Int, offset: UInt64, size: Int) -> UInt64 {
    ByteCycles.read(offset: offset, size: size) { $0 == 0 ? Event.all : 0xff }
  }

  public func write(region: Int, offset: UInt64, size: Int, value: UInt64) {
    guard offset == 0 else { return }
    let events = UInt8(truncatingIfNeeded: value)
    if events & Event.panicked != 0 { platform?.request(.failure(.panic)) }
    if events & Event.crashLoaded != 0 { platform?.request(.failure(.crashKernelLoaded)) }
    if events & ~Event.all != 0 { errors.note("event \(events) is unknown") }
  }

  public func save() -> State { State() }

  public func restore(_ state: State) {}
}
