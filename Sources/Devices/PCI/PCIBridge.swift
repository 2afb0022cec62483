import Machine

/// A PCI function of the PC's chip set that is nothing but configuration registers: the i440FX host bridge, the PIIX3 ISA
/// bridge and the PIIX4's power-management function.
///
/// Guests recognise the machine by them, and read from them where the fixed blocks are. What their registers control in
/// a real chip set (shadowing of ROM areas, bus timing) is kept for reading back only, but for the routes of PCI
/// interrupts: the builder takes them to `PCIInterruptRouter`.
public final class PCIBridge: PCIFunction {
  public let name: String
  public let pci: PCIEndpoint

  init(name: String, configuration: PCIConfigurationSpace) {
    self.name = name
    pci = PCIEndpoint(configuration)
  }

  public func attach(to platform: DevicePlatform) {}

  public func reset() { pci.reset() }

  /// There are no regions behind a bridge of this kind.
  public func read(region: Int, offset: UInt64, size: Int) -> UInt64 { .max }

  public func write(region: Int, offset: UInt64, size: Int, value: UInt64) {}

  public func save() -> PCIEndpoint.State { pci.save() }

  public func restore(_ state: PCIEndpoint.State) { pci.restore(state) }
}
