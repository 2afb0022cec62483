import Machine

/// The ports through which a PC reaches PCI configuration space (PCI Local Bus Specification 3.0, 3.2.2.3.2,
/// "configuration mechanism #1"), and the reset control register that lies among them (82371SB datasheet, 2.5.5).
///
/// A doubleword written to offset 0 selects bus, device, function and register; accesses of any width to offsets 4 to 7
/// then go to that register while the address has its enable bit. Offset 0 is an address register for doublewords only:
/// a byte at offset 1 is the reset control register (port 0xcf9), and the rest is no register at all. ACPI names the reset
/// register as the machine's way to reset.
///
/// Region 0: eight ports (0xcf8 to 0xcff).
public final class PCIConfigurationPorts: Device {
  public struct State: Codable, Equatable, Sendable {
    var address: UInt32 = 0
    var resetControl: UInt8 = 0

    public init() {}
  }

  private static let enable: UInt32 = 1 << 31
  /// Enable, bus, device, function and register; the rest reads as zero.
  private static let addressMask: UInt32 = 0x80ff_fffc
  /// Bit 2 of the reset control register going to one resets; bit 1 says how hard.
  private static let resetProcessor: UInt8 = 1 << 2
  private static let resetKind: UInt8 = 1 << 1

  public let name = "pci"
  private let bus: PCIBus
  private var platform: DevicePlatform?
  private var state = State()

  /// `bus` is bus 0. There are no others: they read as empty.
  public init(bus: PCIBus) { self.bus = bus }

  public func attach(to platform: DevicePlatform) { self.platform = platform }

  public func reset() { state = State() }

  public func save() -> State { state }

  public func restore(_ state: State) {
    self.state = state
    self.state.address &= Self.addressMask
  }

  public func read(region: Int, offset: UInt64, size: Int) -> UInt64 {
    if offset == 0, size == 4 { return UInt64(state.address) }
    return ByteCycles.read(offset: offset, size: size) { offset in
      switch offset {
      case 1: return state.resetControl
      case 4..<8:
        guard let target else { return 0xff }
        return bus.read(target, register(offset))
      default: return 0xff
      }
    }
  }

  public func write(region: Int, offset: UInt64, size: Int, value: UInt64) {
    if offset == 0, size == 4 {
      state.address = UInt32(truncatingIfNeeded: value) & Self.addressMask
      return
    }
    ByteCycles.write(offset: offset, size: size, value: value) { offset, byte in
      switch offset {
      case 1: writeResetControl(byte)
      case 4..<8: if let target { bus.write(target, register(offset), byte) }
      default: break
      }
    }
  }

  /// The function that the address register selects; nil while it is not enabled or names another bus.
  private var target: PCIAddress? {
    guard state.address & Self.enable != 0, state.address >> 16 & 0xff == 0 else { return nil }
    return PCIAddress(device: Int(state.address >> 11 & 0x1f), function: Int(state.address >> 8 & 7))
  }

  private func register(_ offset: UInt64) -> UInt8 {
    UInt8(truncatingIfNeeded: state.address & 0xfc) | UInt8(truncatingIfNeeded: offset & 3)
  }

  private func writeResetControl(_ value: UInt8) {
    let resets = value & ~state.resetControl & Self.resetProcessor != 0
    state.resetControl = value & (Self.resetProcessor | Self.resetKind)
    if resets { platform?.request(.reset) }
  }
}
