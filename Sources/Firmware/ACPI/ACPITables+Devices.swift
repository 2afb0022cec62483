extension ACPITables {
  /// The first of the four global system interrupts that PCI interrupts arrive at.
  private static let pciInterruptBase = 16

  /// DSDT, revision 2 (5.2.11.1): the devices that a guest cannot find by itself.
  static func differentiatedDescription(_ configuration: ACPIConfiguration) -> [UInt8] {
    if let reduced = configuration.reducedHardware {
      return definitionBlock(
        "DSDT", revision: 2,
        [
          .scope("\\_SB", reducedDevices(reduced) + processors(configuration)),
          sleepState("\\_S5", type: reduced.powerOffType),
        ])
    }
    let hardware = configuration.fixedHardware
    var terms: [AMLTerm] = [
      // Whether the system uses the I/O APIC (5.8.1).
      .name("\\PICF", .integer(0)),
      .method("\\_PIC", arguments: 1, [.store(.argument(0), to: .reference("\\PICF"))]),
      .scope("\\_SB", [hostBridge(configuration)] + interruptLinks() + processors(configuration)),
      sleepState("\\_S5", type: hardware.powerOffType),
    ]
    if let type = hardware.suspendType { terms.append(sleepState("\\_S3", type: type)) }
    return definitionBlock("DSDT", revision: 2, terms)
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
      .memoryWindow(configuration.memoryWindow)
    return .device(
      "PCI0",
      [
        .name("_HID", .identifier("PNP0A03")),
        .name("_UID", .integer(0)),
        .name("_BBN", .integer(0)),
        .name("_CRS", resources.term),
        .method(
          "_PRT", arguments: 0,
          [
            .conditional(.reference("\\PICF"), [.returned(.package(interruptRoutes(configuration, usesLinks: false)))]),
            .returned(.package(interruptRoutes(configuration, usesLinks: true))),
          ]),
        isaBridge(configuration),
      ] + (configuration.hasHighPrecisionTimer ? [highPrecisionTimerDevice] : []))
  }

  /// Pins A to D of devices 0 to 31 are spread over global system interrupts 16 to 19, as on most boards, and, while the
  /// 8259s are in use, over the chip set's four routes; only the power-management function's pin, A of device 1, is the
  /// system control interrupt (6.2.13).
  private static func interruptRoutes(_ configuration: ACPIConfiguration, usesLinks: Bool) -> [AMLTerm] {
    (0..<32).flatMap { device in
      (0..<4).map { pin in
        let wire = (device + pin) & 3
        let (source, index): (AMLTerm, Int) =
          if device == 1, pin == 0 {
            (.integer(0), Int(configuration.fixedHardware.interrupt))
          } else if usesLinks {
            (.reference("\\_SB." + links[(wire + 3) & 3]), 0)
          } else {
            (.integer(0), pciInterruptBase + wire)
          }
        return .package([
          .integer(UInt64(device) << 16 | 0xffff), .integer(UInt64(pin)), source, .integer(UInt64(index)),
        ])
      }
    }
  }

  /// The routes of the PIIX3, whose first register has the wire of device 1's pin A.
  private static let links = ["LNKA", "LNKB", "LNKC", "LNKD"]
  private static let routeRegisters = ["PRQ0", "PRQ1", "PRQ2", "PRQ3"]

  /// A device for each route, by which a system that uses the 8259s chooses interrupts (6.2.13).
  private static func interruptLinks() -> [AMLTerm] {
    zip(links, routeRegisters).enumerated().map { number, names in
      let path = "\\_SB.PCI0.ISA." + names.1
      let register = AMLTerm.reference(path)
      let current = ResourceTemplate().sharedInterrupts([0])
      // The number of the interrupt is at this offset of the resource.
      let offset: UInt64 = 5
      return .device(
        names.0,
        [
          .name("_HID", .identifier("PNP0C0F")),
          .name("_UID", .integer(UInt64(number + 1))),
          .name("_PRS", ResourceTemplate().sharedInterrupts([5, 10, 11]).term),
          .method(
            "_STA", arguments: 0,
            [
              .conditional(.and(register, .integer(0x80)), [.returned(.integer(0x9))]), .returned(.integer(0xb)),
            ]),
          .method("_DIS", arguments: 0, [.set(0x80, in: path)]),
          .method(
            "_CRS", arguments: 0,
            [
              .store(current.term, to: .local(0)), .doublewordField(.local(0), offset: offset, "IRQW"),
              .store(.and(register, .integer(0xf)), to: .reference("IRQW")), .returned(.local(0)),
            ]),
          .method(
            "_SRS", arguments: 1,
            [
              .doublewordField(.argument(0), offset: offset, "IRQW"), .store(.reference("IRQW"), to: register),
            ]),
        ])
    }
  }

  private static var highPrecisionTimerDevice: AMLTerm {
    .device(
      "HPET",
      [
        .name("_HID", .identifier("PNP0103")),
        .name("_UID", .integer(0)),
        .name("_CRS", ResourceTemplate().memory(ACPIConfiguration.highPrecisionTimerAddress, count: 1024).term),
      ])
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
        .bytes("PRQR", in: .configuration, offset: 0x60, fields: routeRegisters),
        isaDevice("PIC", "PNP0000", ResourceTemplate().ports(0x20, count: 2).ports(0xa0, count: 2).interrupt(2)),
        isaDevice("TIMR", "PNP0100", ResourceTemplate().ports(0x40, count: 4).interrupt(0)),
        isaDevice(
          "DMA", "PNP0200",
          ResourceTemplate().ports(0x00, count: 16).ports(0x80, count: 16).ports(0xc0, count: 32).dma(4)),
        isaDevice("RTC", "PNP0B00", ResourceTemplate().ports(0x70, count: 2).interrupt(8)),
        isaDevice("PS2K", "PNP0303", ResourceTemplate().ports(0x60, count: 1).ports(0x64, count: 1).interrupt(1)),
        isaDevice("PS2M", "PNP0F13", ResourceTemplate().interrupt(12)),
        isaDevice("MBRD", "PNP0C02", board),
      ] + serialPorts.prefix(configuration.serialPortCount) + (configuration.hasFloppy ? [floppyDevice] : [])
        + (configuration.hasPanicPort ? [panicDevice] : []))
  }

  /// The port that tells of crashes, with methods to read and to write it (QEMU, docs/specs/pvpanic).
  private static var panicDevice: AMLTerm {
    let port = AMLTerm.reference("PEPT")
    return .device(
      "PEVT",
      [
        .name("_HID", .string("QEMU0001")),
        .name("_CRS", ResourceTemplate().ports(ACPIConfiguration.panicPort, count: 1).term),
        .name("_STA", .integer(0xf)),
        .bytes("PEOR", in: .ports, offset: UInt64(ACPIConfiguration.panicPort), fields: ["PEPT"]),
        .method("RDPT", arguments: 0, [.returned(port)]),
        .method("WRPT", arguments: 1, [.store(.argument(0), to: port)]),
      ])
  }

  private static var floppyDevice: AMLTerm {
    isaDevice(
      "FDC", "PNP0700", ResourceTemplate().ports(0x3f0, count: 6).ports(0x3f7, count: 1).interrupt(6).dma(2))
  }

  private static var serialPorts: [AMLTerm] {
    [
      isaDevice("COM1", "PNP0501", ResourceTemplate().ports(0x3f8, count: 8).interrupt(4), number: 1),
      isaDevice("COM2", "PNP0501", ResourceTemplate().ports(0x2f8, count: 8).interrupt(3), number: 2),
    ]
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
