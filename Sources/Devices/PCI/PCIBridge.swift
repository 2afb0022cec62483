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

  private let hasAttributeMap: Bool
  /// The registers of `ProgrammableAttributeMap` before the last reset.
  private var attributes: [UInt8] = []

  init(name: String, configuration: PCIConfigurationSpace, hasAttributeMap: Bool = false) {
    self.name = name
    self.hasAttributeMap = hasAttributeMap
    pci = PCIEndpoint(configuration)
  }

  public func attach(to platform: DevicePlatform) {}

  public func reset() {
    if hasAttributeMap { attributes = ProgrammableAttributeMap.registers.map { pci.read(UInt8($0)) } }
    pci.reset()
  }

  /// Lets RAM answer where it did before the reset that ended a machine's suspension, as the memory controller has had
  /// power, and take writes there: firmware finds out by its variables that it is to wake a system, and has its stack in
  /// that RAM before it can ask for writes. SeaBIOS has locked it by then, from the first waking on.
  public func wake() {
    for (register, attribute) in zip(ProgrammableAttributeMap.registers, attributes) {
      pci.write(UInt8(register), ProgrammableAttributeMap.writable(attribute))
    }
  }

  /// There are no regions behind a bridge of this kind.
  public func read(region: Int, offset: UInt64, size: Int) -> UInt64 { .max }

  public func write(region: Int, offset: UInt64, size: Int, value: UInt64) {}

  public func save() -> PCIEndpoint.State { pci.save() }

  public func restore(_ state: PCIEndpoint.State) { pci.restore(state) }
}
