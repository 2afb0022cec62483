import Machine

/// System control port A, port 0x92: the fast way to A20 and to a reset (IBM Personal System/2 Hardware Interface
/// Technical Reference, "System Control Port A"; 82371SB datasheet, 2.5.4).
///
/// Region 0: one port (0x92).
public final class SystemControlPort: Device {
  public struct State: Codable, Equatable, Sendable {
    var value: UInt8 = 0
  }

  private static let fastReset: UInt8 = 1 << 0
  private static let a20: UInt8 = 1 << 1

  public let name = "system-control"
  private let gate: A20Gate
  private var platform: DevicePlatform?
  private var state = State()

  public init(a20 gate: A20Gate) { self.gate = gate }

  public func attach(to platform: DevicePlatform) { self.platform = platform }

  public func reset() { restore(State()) }

  public func read(region: Int, offset: UInt64, size: Int) -> UInt64 {
    ByteCycles.read(offset: offset, size: size) { $0 == 0 ? state.value : 0xff }
  }

  public func write(region: Int, offset: UInt64, size: Int, value: UInt64) {
    ByteCycles.write(offset: offset, size: size, value: value) { offset, value in
      guard offset == 0 else { return }
      let resets = value & ~state.value & Self.fastReset != 0
      state.value = value & (Self.fastReset | Self.a20)
      gate.systemControl = value & Self.a20 != 0
      if resets { platform?.request(.reset) }
    }
  }

  public func save() -> State { state }

  public func restore(_ state: State) {
    self.state = state
    gate.systemControl = state.value & Self.a20 != 0
  }
}
