import Machine

/// A PCI function of the PC's chip set that is nothing but configuration registers: the i440FX host bridge, the PIIX3 ISA
/// bridge and the PIIX4's power-management function.
///
/// Guests recognise the machine by them, and read from them where the fixed blocks are. What their registers control in
/// a real chip set (shadowing of ROM areas, routing of PCI interrupts, bus timing) is kept for reading back only: the
/// ranges concerned are RAM, and the interrupts are wired to the I/O APIC (see the DSDT in Firmware).
public final class PCIBridge: PCIFunction {
  public struct State: Codable, Equatable, Sendable {
    var configuration: [UInt8]
  }

  public let name: String
  private let powerOn: PCIConfigurationSpace
  private var configuration: PCIConfigurationSpace

  init(name: String, configuration: PCIConfigurationSpace) {
    self.name = name
    powerOn = configuration
    self.configuration = configuration
  }

  public func attach(to platform: DevicePlatform) {}

  public func reset() { configuration = powerOn }

  /// There are no regions behind a bridge of this kind.
  public func read(region: Int, offset: UInt64, size: Int) -> UInt64 { .max }

  public func write(region: Int, offset: UInt64, size: Int, value: UInt64) {}

  public func readConfiguration(_ offset: UInt8) -> UInt8 { configuration.read(offset) }

  public func writeConfiguration(_ offset: UInt8, _ value: UInt8) { configuration.write(offset, value) }

  public func save() -> State { State(configuration: configuration.contents) }

  public func restore(_ state: State) {
    configuration = powerOn
    configuration.restore(state.configuration)
  }
}
