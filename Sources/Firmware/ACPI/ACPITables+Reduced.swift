// The tables of a machine without ACPI's fixed hardware (ACPI 6.5, 4.1).
extension ACPITables {
  /// FADT, revision 6 (5.2.9): everything about fixed hardware is zero.
  static func reducedFixedDescription(
    _ hardware: ACPIConfiguration.ReducedHardware, facs: UInt64, dsdt: UInt64
  ) -> [UInt8] {
    table("FACP", revision: 6) { body in
      body.append(UInt32(truncatingIfNeeded: facs))
      body.append(UInt32(truncatingIfNeeded: dsdt))
      // Reserved; the machine is a desktop.
      body.append([0, 1])
      // From the system control interrupt to the lengths of the register blocks.
      body.append([UInt8](repeating: 0, count: 50))
      // Latencies that say: no C2, no C3.
      body.append(UInt16(101))
      body.append(UInt16(1001))
      // No cache flush by reading; no clock duty cycle; no alarm day, month or century.
      body.append([UInt8](repeating: 0, count: 9))
      body.append(BootFlag.legacyDevices | BootFlag.noVGA | BootFlag.noClock)
      body.append([0])
      body.append(
        Flag.wbinvd | Flag.c1 | Flag.noPowerButton | Flag.noSleepButton | Flag.resetRegister | Flag.reducedHardware)
      body.append(port(UInt32(hardware.resetPort), bits: 8))
      body.append([hardware.resetValue])
      // No ARM boot flags; minor version 5.
      body.append(UInt16(0))
      body.append([5])
      body.append(UInt64(0))
      body.append(dsdt)
      // The eight register blocks.
      body.append([UInt8](repeating: 0, count: 8 * 12))
      body.append(port(UInt32(hardware.sleepControlPort), bits: 8))
      body.append(port(UInt32(hardware.sleepStatusPort), bits: 8))
      body.append(UInt64(0))
    }
  }

  /// What is in the DSDT's system bus, beside the processors.
  static func reducedDevices(_ hardware: ACPIConfiguration.ReducedHardware) -> [AMLTerm] {
    [
      .device(
        "COM1",
        [
          .name("_HID", .identifier("PNP0501")),
          .name("_UID", .integer(0)),
          .name("_CRS", ResourceTemplate().ports(hardware.serialPort, count: 8).interrupt(4).term),
        ]),
      .device("PWRB", [.name("_HID", .identifier("PNP0C0C")), .name("_UID", .integer(0))]),
      // Whose interrupt means: the power button was pressed (5.6.9, 4.8.3.1.2).
      .device(
        "GED",
        [
          .name("_HID", .string("ACPI0013")),
          .name("_UID", .integer(0)),
          .name("_CRS", ResourceTemplate().globalInterrupt(hardware.buttonInterrupt, isLevel: false).term),
          .method("_EVT", arguments: 1, [.notify("\\_SB.PWRB", 0x80)]),
        ]),
    ] + hardware.virtioDevices.enumerated().map(virtioDevice)
  }

  /// As Linux's driver for virtio devices in memory finds them.
  private static func virtioDevice(
    number: Int, _ device: ACPIConfiguration.ReducedHardware.VirtioDevice
  ) -> AMLTerm {
    let digits = String(number, radix: 16, uppercase: true)
    let resources = ResourceTemplate()
      .memory(device.address, count: device.size, isWritable: true)
      .globalInterrupt(device.interrupt, isLevel: true)
    return .device(
      "V" + String(repeating: "0", count: max(0, 3 - digits.count)) + digits,
      [
        .name("_HID", .string("LNRO0005")),
        .name("_UID", .integer(UInt64(number))),
        .name("_CRS", resources.term),
      ])
  }
}
