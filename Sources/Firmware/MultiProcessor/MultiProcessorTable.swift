import Memory
import X86

/// Intel's MultiProcessor configuration table (MultiProcessor Specification 1.4, chapter 4): processors, the I/O APIC and how
/// interrupts arrive there, for systems from before ACPI and for those that are told to do without it.
///
/// Says what the ACPI tables' MADT and routing table say, as far as it can: processors with identifiers up to 254.
public enum MultiProcessorTable {
  /// Where the table is, in the last 128 KiB below 1 MiB.
  static let area: Range<UInt64> = 0xf_c000..<0xf_f000
  /// Where the pointer to it is: the first KiB of the extended BIOS data area, which systems search first.
  static let pointerAddress: UInt64 = PhysicalMemoryMap.conventionalEnd + ExtendedBIOSDataArea.multiProcessorPointer

  private enum Entry {
    static let processor: UInt8 = 0
    static let bus: UInt8 = 1
    static let ioAPIC: UInt8 = 2
    static let interrupt: UInt8 = 3
    static let localInterrupt: UInt8 = 4
  }

  /// Types of interrupts (table 4-11).
  private enum Interrupt {
    static let vectored: UInt8 = 0
    static let nonMaskable: UInt8 = 1
    static let external: UInt8 = 3
  }

  private static let pciBus: UInt8 = 0
  private static let isaBus: UInt8 = 1
  private static let headerSize = 44
  private static let activeHighLevel: UInt16 = 0b1101

  /// Writes the table into guest memory, which must not be running.
  public static func install(_ configuration: ACPIConfiguration, in memory: GuestMemory) {
    let table = table(configuration)
    precondition(table.count <= area.count, "255 processors fit")
    memory.place(table, at: area.lowerBound)
    memory.place(pointer, at: pointerAddress)
  }

  /// The floating pointer structure (4.1). Its feature bytes say that there is a table, and that the machine starts in
  /// virtual-wire mode.
  static var pointer: [UInt8] {
    var pointer = ByteWriter()
    pointer.append("_MP_", count: 4)
    pointer.append(UInt32(area.lowerBound))
    // Its own length in 16 bytes; version 1.4; sum; features.
    pointer.append([1, 4, 0, 0, 0, 0, 0, 0])
    pointer.putChecksum(at: 10)
    return pointer.bytes
  }

  static func table(_ configuration: ACPIConfiguration) -> [UInt8] {
    let entries = entries(configuration)
    var table = ByteWriter()
    table.append("PCMP", count: 4)
    table.append(UInt16(headerSize + entries.reduce(0) { $0 + $1.count }))
    table.append([4, 0])
    table.append("RINGSIDE", count: 8)
    table.append("VIRTUAL PC  ", count: 12)
    // No table of the maker's.
    table.append(UInt32(0))
    table.append(UInt16(0))
    table.append(UInt16(entries.count))
    table.append(configuration.localAPICAddress)
    // No extended table.
    table.append(UInt32(0))
    for entry in entries { table.append(entry) }
    table.putChecksum(at: 7)
    return table.bytes
  }

  private static func entries(_ configuration: ACPIConfiguration) -> [[UInt8]] {
    var entries: [[UInt8]] = []
    func add(_ body: (inout ByteWriter) -> Void) {
      var entry = ByteWriter()
      body(&entry)
      entries.append(entry.bytes)
    }
    for (number, identifier) in configuration.processors.enumerated() where identifier < 255 {
      add {
        // Enabled; the first is the bootstrap processor.
        $0.append([Entry.processor, UInt8(identifier), 0x14, number == 0 ? 3 : 1])
        // A Pentium Pro or later, with an FPU and an APIC: systems ask the processor itself.
        $0.append(UInt32(0x600))
        $0.append(UInt32(0x201))
        $0.append([UInt8](repeating: 0, count: 8))
      }
    }
    for (bus, type) in [(pciBus, "PCI   "), (isaBus, "ISA   ")] {
      add {
        $0.append([Entry.bus, bus])
        $0.append(type, count: 6)
      }
    }
    add {
      $0.append([Entry.ioAPIC, configuration.ioAPICIdentifier, 0x11, 1])
      $0.append(configuration.ioAPICAddress)
    }
    func addInterrupt(_ kind: UInt8, bus: UInt8, source: UInt8, to input: UInt8, flags: UInt16 = 0) {
      add {
        $0.append([Entry.interrupt, kind])
        $0.append(flags)
        $0.append([bus, source, configuration.ioAPICIdentifier, input])
      }
    }
    // The timer arrives at input 2, where the 8259s' cascade would be.
    for source in 0..<16 as Range<UInt8> where source != 2 {
      addInterrupt(
        Interrupt.vectored, bus: isaBus, source: source, to: source == 0 ? 2 : source,
        flags: source == configuration.fixedHardware.interrupt ? activeHighLevel : 0)
    }
    for device in 0..<32 as Range<UInt8> {
      for pin in 0..<4 as Range<UInt8> {
        let input = device == 1 && pin == 0 ? configuration.fixedHardware.interrupt : 16 + (device + pin) & 3
        addInterrupt(Interrupt.vectored, bus: pciBus, source: device << 2 | pin, to: input)
      }
    }
    for (kind, input) in [(Interrupt.external, 0), (Interrupt.nonMaskable, 1)] as [(UInt8, UInt8)] {
      add {
        $0.append([Entry.localInterrupt, kind])
        $0.append(UInt16(0))
        // To all processors.
        $0.append([isaBus, 0, 0xff, input])
      }
    }
    return entries
  }
}
