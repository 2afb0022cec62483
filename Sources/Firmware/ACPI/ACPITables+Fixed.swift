extension ACPITables {
  /// Flags of the fixed description table (ACPI 6.5, table 5.10).
  enum Flag {
    static let wbinvd: UInt32 = 1 << 0
    /// All processors can enter C1.
    static let c1: UInt32 = 1 << 2
    /// The buttons are no bits of the fixed hardware.
    static let noPowerButton: UInt32 = 1 << 4
    static let noSleepButton: UInt32 = 1 << 5
    static let timer32Bit: UInt32 = 1 << 8
    static let resetRegister: UInt32 = 1 << 10
    static let reducedHardware: UInt32 = 1 << 20
  }

  /// Boot architecture flags (table 5.11).
  enum BootFlag {
    /// Serial ports, for instance.
    static let legacyDevices: UInt16 = 1 << 0
    static let keyboardController: UInt16 = 1 << 1
    static let noVGA: UInt16 = 1 << 2
    static let noClock: UInt16 = 1 << 5
  }

  /// FACS: what firmware and system share (5.2.10). Has no checksum.
  static func firmwareControlStructure() -> [UInt8] {
    var structure = ByteWriter()
    structure.append("FACS", count: 4)
    structure.append(UInt32(64))
    // Hardware signature, waking vector, global lock, flags.
    structure.append([UInt8](repeating: 0, count: 16))
    structure.append(UInt64(0))
    structure.append([2])
    structure.pad(toMultipleOf: 64)
    return structure.bytes
  }

  /// FADT, revision 6 (5.2.9).
  static func fixedDescription(_ configuration: ACPIConfiguration, facs: UInt64, dsdt: UInt64) -> [UInt8] {
    if let reduced = configuration.reducedHardware {
      return reducedFixedDescription(reduced, facs: facs, dsdt: dsdt)
    }
    let hardware = configuration.fixedHardware
    let base = UInt32(hardware.base)
    let events = base
    let control = base + 4
    let timer = base + 8
    let generalEvents = base + 12

    return table("FACP", revision: 6) { body in
      body.append(UInt32(truncatingIfNeeded: facs))
      body.append(UInt32(truncatingIfNeeded: dsdt))
      // Reserved; the machine is a desktop.
      body.append([0, 1])
      body.append(UInt16(hardware.interrupt))
      body.append(UInt32(hardware.commandPort))
      // Enable, disable; no S4BIOS and no processor performance control.
      body.append([hardware.enable, hardware.disable, 0, 0])
      // PM1a and PM1b event blocks, PM1a and PM1b control blocks, PM2 control, timer, general-purpose events 0 and 1.
      for block in [events, 0, control, 0, 0, timer, generalEvents, 0] { body.append(block) }
      // Their lengths, the second general-purpose block's base, and no C-state notification.
      body.append([4, 2, 0, 4, 4, 0, 0, 0])
      // Latencies that say: no C2, no C3.
      body.append(UInt16(101))
      body.append(UInt16(1001))
      // No cache flush by reading; no clock duty cycle; no alarm day, month or century.
      body.append(UInt16(0))
      body.append(UInt16(0))
      body.append([0, 0, 0, 0, 0])
      body.append(
        BootFlag.legacyDevices | BootFlag.keyboardController | (configuration.hasDisplay ? 0 : BootFlag.noVGA))
      body.append([0])
      body.append(
        Flag.wbinvd | Flag.c1 | Flag.noSleepButton | Flag.resetRegister
          | (hardware.has32BitTimer ? Flag.timer32Bit : 0))
      body.append(port(UInt32(hardware.resetPort), bits: 8))
      body.append([hardware.resetValue])
      // No ARM boot flags; minor version 5.
      body.append(UInt16(0))
      body.append([5])
      // The 32-bit pointer to the FACS counts; the table above is for both.
      body.append(UInt64(0))
      body.append(dsdt)
      body.append(port(events, bits: 32))
      body.append(noPort)
      body.append(port(control, bits: 16))
      body.append(noPort)
      body.append(noPort)
      body.append(port(timer, bits: 32))
      body.append(port(generalEvents, bits: 32))
      body.append(noPort)
      // No sleep registers: this is not a hardware-reduced machine. No hypervisor vendor.
      body.append(noPort)
      body.append(noPort)
      body.append(UInt64(0))
    }
  }

  /// A generic address structure for a port (5.2.3.2).
  static func port(_ number: UInt32, bits: UInt8) -> [UInt8] {
    var address = ByteWriter()
    // System I/O space, width, offset, access size: byte, word or doubleword.
    address.append([1, bits, 0, bits == 8 ? 1 : bits == 16 ? 2 : 3])
    address.append(UInt64(number))
    return address.bytes
  }

  private static let noPort = [UInt8](repeating: 0, count: 12)
}
