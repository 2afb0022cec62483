import Memory
import X86

/// The ACPI tables of the machine: what a guest reads instead of guessing (ACPI 6.5, chapter 5).
///
/// They tell how many processors there are and how interrupts are wired (MADT), where the power-management hardware is
/// (FADT, FACS) and which devices sit on ports that cannot be enumerated (DSDT, in ACPI's machine language, which is
/// assembled here rather than compiled). The root pointer stands where a BIOS would have put it, in the last 128 KiB
/// below 1 MiB, and the tables behind it: the memory map reserves that range, whatever the size of the guest. Both
/// generations of root tables are there, for guests old and new.
///
/// The tables describe the PC that `ACPIConfiguration` names; its doc comments say who has to be where.
public enum ACPITables {
  /// The tables would not fit below 1 MiB.
  public struct Failure: Error, Equatable, Sendable, CustomStringConvertible {
    public var processorCount: Int
    public var description: String {
      "ACPI tables for \(processorCount) processors do not fit below 1 MiB; give the guest fewer processors"
    }
  }

  /// Where a guest looks for the root pointer (5.2.5.1).
  static let area: Range<UInt64> = 0xe0000..<0x100000

  /// The firmware control structure, which the guest writes to.
  static let controlStructure = GuestPhysicalAddress(area.lowerBound + 64)

  /// Writes all tables into guest memory, which must not be running. Returns the address of the root pointer.
  public static func install(
    _ configuration: ACPIConfiguration, in memory: GuestMemory
  ) throws(Failure) -> GuestPhysicalAddress {
    let bytes = image(configuration)
    guard UInt64(bytes.count) <= SMBIOSTables.area.lowerBound - area.lowerBound else {
      throw Failure(processorCount: configuration.processors.count)
    }
    memory.place(bytes, at: area.lowerBound)
    return GuestPhysicalAddress(area.lowerBound)
  }

  /// All tables as they stand from `area.lowerBound` on, the root pointer first.
  static func image(_ configuration: ACPIConfiguration) -> [UInt8] {
    let layout = ACPITableLayout(
      configuration, at: area.lowerBound, behind: rootPointerSize, identifierPage: identifierPage)
    var image = ByteWriter(layout.bytes)
    for (index, byte) in rootPointer(rsdt: layout.rsdt, xsdt: layout.xsdt).enumerated() { image.put(byte, at: index) }
    return image.bytes
  }

  // MARK: Headers and checksums

  static let rootPointerSize = 36
  static let headerSize = 36
  static let checksumOffset = 9
  private static let vendor = "RINGSD"

  /// A table with its header (5.2.6).
  static func table(_ signature: String, revision: UInt8, body: (inout ByteWriter) -> Void) -> [UInt8] {
    var table = ByteWriter()
    table.append(signature, count: 4)
    table.append(UInt32(0))
    table.append([revision, 0])
    table.append(vendor, count: 6)
    table.append("RINGSIDE", count: 8)
    table.append(UInt32(1))
    table.append("RING", count: 4)
    table.append(UInt32(1))
    body(&table)
    table.put(UInt32(table.bytes.count), at: 4)
    table.putChecksum(at: checksumOffset)
    return table.bytes
  }

  /// A table that is a block of definitions (5.2.11).
  static func definitionBlock(_ signature: String, revision: UInt8, _ terms: [AMLTerm]) -> [UInt8] {
    table(signature, revision: revision) { body in
      for term in terms { body.append(term.encoded) }
    }
  }

  /// The root system description pointer, revision 2 (5.2.5.3).
  static func rootPointer(rsdt: UInt64, xsdt: UInt64) -> [UInt8] {
    var pointer = ByteWriter()
    pointer.append("RSD PTR ", count: 8)
    pointer.append([0])
    pointer.append(vendor, count: 6)
    pointer.append([2])
    pointer.append(UInt32(truncatingIfNeeded: rsdt))
    pointer.append(UInt32(rootPointerSize))
    pointer.append(xsdt)
    pointer.append([0, 0, 0, 0])
    // The first 20 bytes have a sum of their own, for guests that know revision 0 only.
    pointer.putChecksum(at: 8, over: 0..<20)
    pointer.putChecksum(at: 32)
    return pointer.bytes
  }
}
