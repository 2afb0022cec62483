extension ACPITables {
  /// Entry types of the MADT (ACPI 6.5, table 5.21).
  private enum Entry {
    static let localAPIC: UInt8 = 0
    static let ioAPIC: UInt8 = 1
    static let sourceOverride: UInt8 = 2
    static let localAPICNonMaskable: UInt8 = 4
    static let localX2APIC: UInt8 = 9
    static let localX2APICNonMaskable: UInt8 = 10
  }

  /// MPS INTI flags: as the bus has it, or active high and level-triggered (table 5.26).
  private static let conforming: UInt16 = 0
  private static let activeHighLevel: UInt16 = 0b1101

  /// Identifiers from here on need the entry for x2APICs.
  private static let firstX2APIC: UInt32 = 255

  /// MADT, revision 5 (5.2.12).
  static func interruptControllers(_ configuration: ACPIConfiguration) -> [UInt8] {
    table("APIC", revision: 5) { body in
      body.append(configuration.localAPICAddress)
      // A PC has 8259s, too.
      let isPC = configuration.reducedHardware == nil
      body.append(UInt32(isPC ? 1 : 0))

      for (number, identifier) in configuration.processors.enumerated() {
        if identifier < firstX2APIC {
          body.append([Entry.localAPIC, 8, UInt8(truncatingIfNeeded: number), UInt8(identifier)])
          body.append(enabled)
        } else {
          body.append([Entry.localX2APIC, 16, 0, 0])
          body.append(identifier)
          body.append(enabled)
          body.append(UInt32(number))
        }
      }

      body.append([Entry.ioAPIC, 12, configuration.ioAPICIdentifier, 0])
      body.append(configuration.ioAPICAddress)
      body.append(UInt32(0))

      // The timer's interrupt arrives at pin 2; the system control interrupt is level-triggered.
      for (source, global, flags) in [
        (0, 2, conforming),
        (configuration.fixedHardware.interrupt, configuration.fixedHardware.interrupt, activeHighLevel),
      ] where isPC {
        body.append([Entry.sourceOverride, 10, 0, source])
        body.append(UInt32(global))
        body.append(flags)
      }

      // All processors take NMI at LINT1.
      body.append([Entry.localAPICNonMaskable, 6, 0xff])
      body.append(conforming)
      body.append([1])
      if configuration.processors.contains(where: { $0 >= firstX2APIC }) {
        body.append([Entry.localX2APICNonMaskable, 12])
        body.append(conforming)
        body.append(UInt32.max)
        body.append([1, 0, 0, 0])
      }
    }
  }

  private static let enabled: UInt32 = 1
}
