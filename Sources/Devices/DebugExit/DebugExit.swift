import Machine

/// A port that ends the process, for test guests: status `(value << 1) | 1`, so that no guest can be mistaken for one
/// that ended well. The same as QEMU's isa-debug-exit.
///
/// Region 0: four ports (0xf4 to 0xf7 unless the user says otherwise).
public final class DebugExit: Device {
  /// There is nothing to remember.
  public struct State: Codable, Equatable, Sendable {}

  public let name = "debug-exit"
  private var platform: DevicePlatform?

  public init() {}

  public func attach(to platform: DevicePlatform) { self.platform = platform }

  public func reset() {}

  /// Zero, so that a guest can tell that the port is there.
  public func read(region: Int, offset: UInt64, size: Int) -> UInt64 { 0 }

  public func write(region: Int, offset: UInt64, size: Int, value: UInt64) {
    platform?.request(.exit(status: Int32(truncatingIfNeeded: value << 1 | 1)))
  }

  public func save() -> State { State() }

  public func restore(_ state: State) {}
}
