extension PCIBridge {
  private typealias Register = PCIConfigurationSpace.Register

  /// The subsystem by which SeaBIOS and OVMF know that they can ask a QEMU-style configuration device (QEMU,
  /// docs/specs/pci-ids, "1af4:1100"); what is at `FirmwareConfiguration` is that.
  private static let subsystemVendor: UInt16 = 0x1af4
  private static let subsystem: UInt16 = 0x1100

  /// The host bridge of Intel's 440FX (82441FX datasheet, 3.2): device 0.
  public static func hostBridge440FX() -> PCIBridge {
    var space = PCIConfigurationSpace(
      vendor: 0x8086, device: 0x1237, revision: 2, classCode: 0x06_0000, subsystemVendor: subsystemVendor,
      subsystem: subsystem)
    // Memory access and bus mastering are always on.
    space.set(Register.command, UInt16(0x0006), writable: 0x0100)
    space.set(Register.status, UInt16(0x0280), clearedByOne: 0xf900)
    space.set(0x0d, UInt8(0), writable: 0xf8)
    // PMC configuration, DRAM timing, programmable attribute maps, DRAM boundaries, SMRAM control.
    space.set(0x50, UInt16(0), writable: 0xffff)
    for register in 0x58...0x6f { space.set(register, UInt8(0), writable: 0xff) }
    space.set(0x72, UInt8(0x02), writable: 0x78)
    return PCIBridge(name: "i440fx", configuration: space, hasAttributeMap: true)
  }

  /// The ISA bridge of Intel's PIIX3 (82371SB datasheet, 2.1): device 1, function 0.
  public static func isaBridgePIIX3() -> PCIBridge {
    var space = PCIConfigurationSpace(
      vendor: 0x8086, device: 0x7000, revision: 0, classCode: 0x06_0100, isMultifunction: true,
      subsystemVendor: subsystemVendor, subsystem: subsystem)
    space.set(Register.command, UInt16(0x0007), writable: 0x0108)
    space.set(Register.status, UInt16(0x0200), clearedByOne: 0x7900)
    // I/O recovery timer, X-bus chip select.
    space.set(0x4c, UInt8(0x4d), writable: 0x7f)
    space.set(0x4e, UInt16(0x0003), writable: 0x0fff)
    // PCI interrupt routes: not routed to the 8259s.
    for register in 0x60...0x63 { space.set(register, UInt8(0x80), writable: 0x8f) }
    // Top of memory, miscellaneous status, motherboard routing, APIC base.
    space.set(0x69, UInt8(0x02), writable: 0xfe)
    space.set(0x6a, UInt16(0), writable: 0x8000)
    space.set(0x70, UInt8(0x80), writable: 0xef)
    space.set(0x80, UInt8(0), writable: 0x7f)
    // Deterministic latency control.
    space.set(0x82, UInt8(0), writable: 0x0f)
    // SMI control and its enables.
    space.set(0xa0, UInt8(0x08), writable: 0x1f)
    space.set(0xa2, UInt16(0), writable: 0x01ff)
    return PCIBridge(name: "piix3", configuration: space)
  }

  /// The power-management function of Intel's PIIX4 (82371AB datasheet, 7.1): device 1, function 3. `base` is where the
  /// builder has put region 0 of `PowerManagement`; it is a multiple of 64 and cannot be moved by the guest.
  public static func powerManagementPIIX4(base: UInt16) -> PCIBridge {
    var space = PCIConfigurationSpace(
      vendor: 0x8086, device: 0x7113, revision: 3, classCode: 0x06_8000, subsystemVendor: subsystemVendor,
      subsystem: subsystem)
    space.set(Register.command, UInt16(0), writable: 0x0001)
    space.set(Register.status, UInt16(0x0280), clearedByOne: 0xf900)
    // The SCI: INTA#, which this function takes to IRQ 9.
    space.set(Register.interruptLine, UInt8(9), writable: 0xff)
    space.set(Register.interruptPin, UInt8(1))
    // PMBA, with its type bit, and the bit that switches its decoding on.
    space.set(0x40, UInt32(base & 0xffc0) | 1)
    space.set(0x80, UInt8(1))
    // Device activity B: system-management interrupts for the command port are on, which says that the code for them is
    // there. It is not, and `PowerManagement` does its work; firmware that finds the bit set puts none there.
    space.set(0x58, UInt32(1 << 25), writable: ~0)
    // The SMBus base reads as a port range that nobody has set up.
    space.set(0x90, UInt32(1))
    return PCIBridge(name: "piix4-power-management", configuration: space)
  }
}
