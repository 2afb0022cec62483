/// The machine's ACPI tables one behind another, but for the root pointer, and what is to be known to move them: where
/// they point at each other.
struct ACPITableLayout {
  /// A field that holds the address of a byte of this layout.
  struct Pointer: Equatable {
    /// Offset of the field, and its size in bytes.
    var offset: Int
    var size: Int
  }

  private(set) var bytes: [UInt8]
  private(set) var pointers: [Pointer] = []
  /// The offset of four bytes that are to have the address of the generation identifier's page.
  private(set) var identifierPointer: Int?
  /// The tables that have a checksum, by offset.
  private(set) var tables: [Range<Int>] = []
  /// Addresses.
  private(set) var rsdt: UInt64 = 0
  private(set) var xsdt: UInt64 = 0

  /// Lays the tables out for `base`, behind `head` bytes of zeros; the generation identifier is in `identifierPage`.
  init(_ configuration: ACPIConfiguration, at base: UInt64, behind head: Int = 0, identifierPage: UInt64 = 0) {
    var image = ByteWriter(count: head)
    var tables: [Range<Int>] = []
    var pointers: [Pointer] = []

    /// Appends a table at an aligned address. Returns its offset.
    func add(_ table: [UInt8], alignment: Int = 16) -> Int {
      image.pad(toMultipleOf: alignment)
      defer { image.append(table) }
      return image.bytes.count
    }

    /// The same for one with the usual header. `fields` are the offsets in it of addresses, with their sizes.
    func addTable(_ table: [UInt8], _ fields: [Pointer] = []) -> Int {
      let offset = add(table)
      tables.append(offset..<offset + table.count)
      pointers += fields.map { Pointer(offset: offset + $0.offset, size: $0.size) }
      return offset
    }

    func address(_ offset: Int) -> UInt64 { base + UInt64(offset) }

    let facs = add(ACPITables.firmwareControlStructure(), alignment: 64)
    precondition(
      head == 0 || address(facs) == ACPITables.controlStructure.rawValue,
      "the firmware control structure follows the root pointer")
    let dsdt = addTable(ACPITables.differentiatedDescription(configuration))
    let fadt = addTable(
      ACPITables.fixedDescription(configuration, facs: address(facs), dsdt: address(dsdt)),
      [Pointer(offset: 36, size: 4), Pointer(offset: 40, size: 4), Pointer(offset: 140, size: 8)])
    var described = [fadt, addTable(ACPITables.interruptControllers(configuration))]
    if configuration.hasHighPrecisionTimer { described.append(addTable(ACPITables.highPrecisionTimer())) }
    if configuration.hasGenerationIdentifier {
      let table = addTable(ACPITables.generationDescription(page: UInt32(truncatingIfNeeded: identifierPage)))
      identifierPointer = table + ACPITables.identifierPointerOffset
      described.append(table)
    }

    func root(_ signature: String, pointerSize: Int) -> Int {
      let table = ACPITables.table(signature, revision: 1) { body in
        for offset in described {
          if pointerSize == 8 {
            body.append(address(offset))
          } else {
            body.append(UInt32(truncatingIfNeeded: address(offset)))
          }
        }
      }
      return addTable(
        table,
        described.indices.map { Pointer(offset: ACPITables.headerSize + $0 * pointerSize, size: pointerSize) })
    }
    let rsdt = root("RSDT", pointerSize: 4)
    let xsdt = root("XSDT", pointerSize: 8)
    bytes = image.bytes
    self.tables = tables
    self.pointers = pointers
    self.rsdt = address(rsdt)
    self.xsdt = address(xsdt)
  }

  /// Sets all checksums to zero, for whoever computes them when the tables have moved.
  mutating func clearChecksums() {
    for table in tables { bytes[table.lowerBound + ACPITables.checksumOffset] = 0 }
  }
}
