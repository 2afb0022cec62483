extension ACPITables {
  /// The first of the four global system interrupts that PCI interrupts arrive at.
  private static let pciInterruptBase = 16

  /// DSDT, revision 2 (5.2.11.1): the devices that a guest cannot find by itself.
  static func differentiatedDescription(_ configuration: ACPIConfiguration) -> [UInt8] {
    let hardware = configuration.fixedHardware
    var terms: [AMLTerm] = [
      .scope("\\_SB", [hostBridge(configuration)] + processors(configuration)),
      sleepState("\\_S5", type: hardware.powerOffType),
    ]
    if let type = hardware.suspendType { terms.append(sleepState("\\_S3", type: type)) }
    return table("DSDT", revision: 2) { body in
      for term in terms { body.append(term.encoded) }
    }
  }

  /// The values for SLP_TYP in PM1a and PM1b control, and two reserved ones (7.4.2).
  private static func sleepState(_ path: String, type: UInt8) -> AMLTerm {
    .name(path, .package([.integer(UInt64(type)), .integer(UInt64(type)), .integer(0), .integer(0)]))
  }

  /// Processors, numbered as in the MADT.
  private static func processors(_ configuration: ACPIConfiguration) -> [AMLTerm] {
    configuration.processors.indices.map { number in
      let digits = String(number, radix: 16, uppercase: true)
      let name = "C" + String(repeating: "0", count: max(0, 3 - digits.count)) + digits
      return .device(name, [.name("_HID", .string("ACPI0007")), .name("_UID", .integer(UInt64(number)))])
    }
  }

  /// The i440FX: what it passes on to its bus, and how the bus's interrupts arrive.
  private static func hostBridge(_ configuration: ACPIConfiguration) -> AMLTerm {
    let resources = ResourceTemplate()
      .busNumbers(0...0xff)
      .ports(0xcf8, count: 8)
      .portWindow(0x0000...0x0cf7)
      .portWindow(0x0d00...0xffff)
      .memoryWindow(0xa_0000...0xb_ffff, isCacheable: true)
      .memoryWindow(0xc000_0000...0xfebf_ffff)
    return .device(
      "PCI0",
      [
        .name("_HID", .identifier("PNP0A03")),
        .name("_UID", .integer(0)),
        .name("_BBN", .integer(0)),
        .name("_CRS", resources.term),
        .name("_PRT", .package(interruptRoutes(configuration))),
        isaBridge(configuration),
      ])
  }

  /// Pins A to D of devices 0 to 31 are spread over global system interrupts 16 to 19, as on most boards; only the
  /// power-management function's pin, A of device 1, is the system control interrupt (6.2.13).
  private static func interruptRoutes(_ configuration: ACPIConfiguration) -> [AMLTerm] {
    (0..<32).flatMap { device in
      (0..<4).map { pin in
        let interrupt =
          device == 1 && pin == 0
          ? Int(configuration.fixedHardware.interrupt) : pciInterruptBase + (device + pin) & 3
        return .package([
          .integer(UInt64(device) << 16 | 0xffff), .integer(UInt64(pin)), .integer(0), .integer(UInt64(interrupt)),
        ])
      }
    }
  }

  /// The PIIX3, device 1 of the bus, with what hangs on it.
  private static func isaBridge(_ configuration: ACPIConfiguration) -> AMLTerm {
    let hardware = configuration.fixedHardware
    let board = ResourceTemplate()
      .ports(hardware.base, count: 64)
      .ports(hardware.commandPort, count: 2)
      .ports(0x92, count: 1)
    return .device(
      "ISA",
      [
        .name("_ADR", .integer(0x0001_0000)),
        isaDevice("PIC", "PNP0000", ResourceTemplate().ports(0x20, count: 2).ports(0xa0, count: 2).interrupt(2)),
        isaDevice("TIMR", "PNP0100", ResourceTemplate().ports(0x40, count: 4).interrupt(0)),
        isaDevice("RTC", "PNP0B00", ResourceTemplate().ports(0x70, count: 2).interrupt(8)),
        isaDevice("PS2K", "PNP0303", ResourceTemplate().ports(0x60, count: 1).ports(0x64, count: 1).interrupt(1)),
        isaDevice("PS2M", "PNP0F13", ResourceTemplate().interrupt(12)),
        isaDevice("COM1", "PNP0501", ResourceTemplate().ports(0x3f8, count: 8).interrupt(4), number: 1),
        isaDevice("MBRD", "PNP0C02", board),
      ])
  }

  private static func isaDevice(
    _ name: String, _ identifier: String, _ resources: ResourceTemplate, number: UInt64? = nil
  ) -> AMLTerm {
    var terms: [AMLTerm] = [.name("_HID", .identifier(identifier)), .name("_CRS", resources.term)]
    if let number { terms.append(.name("_UID", .integer(number))) }
    // Present, enabled, shown and working.
    terms.append(.name("_STA", .integer(0xf)))
    return .device(name, terms)
  }
}
