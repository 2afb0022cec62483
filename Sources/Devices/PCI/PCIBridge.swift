import Machine

/// A PCI function of the PC's chip set that is nothing but configuration registers: the i440FX host bridge, the PIIX3 ISA
/// bridge and the PIIX4's power-management function.
///
/// Guests recognise the machine by them, and read from them where the fixed blocks are. What their registers control in
/// a real chip set (bus timing) is kept for reading back only, but for the routes of PCI interrupts, which the builder
/// takes to `PCIInterruptRouter`, and the shadowing of ROM areas, which it takes to `ProgrammableAttributeMap`.
public final class PCIBridge: PCIFunction {
  public let name: String
  public let pci: PCIEndpoint

  /// Registers that keep their values when a suspended machine wakes: the chip set's memory controller has had power.
  private let suspended: ClosedRange<Int>?
  /// Their values before the last reset.
  private var kept: [UInt8] = []

  init(name: String, configuration: PCIConfigurationSpace, keepingInSuspension suspended: ClosedRange<Int>? = nil) {
    self.name = name
    self.suspended = suspended
    pci = PCIEndpoint(configuration)
  }

  public func attach(to platform: DevicePlatform) {}

  public func reset() {
    kept = suspended.map { $0.map { pci.read(UInt8($0)) } } ?? []
    pci.reset()
  }

  /// Puts back what a suspended machine keeps, after the reset that ended its suspension.
  public func wake() {
    for (register, value) in zip(suspended ?? 0...0, kept) { pci.write(UInt8(register), value) }
  }

  /// There are no regions behind a bridge of this kind.
  public func read(region: Int, offset: UInt64, size: Int) -> UInt64 { .max }

  public func write(region: Int, offset: UInt64, size: Int, value: UInt64) {}

  public func save() -> PCIEndpoint.State { pci.save() }

  public func restore(_ state: PCIEndpoint.State) { pci.restore(state) }
}
