/// The ACPI tables in the form in which SeaBIOS and OVMF take them from a configuration device: the tables and the root
/// pointer as files, and a script of what to do with them, because only the firmware knows where they will lie (QEMU,
/// hw/acpi/bios-linker-loader; OVMF, QemuLoader.h).
///
/// A script is a list of 128-byte commands: to give a file memory, to add a file's address to a field of another, to set a
/// checksum. Fields hold offsets into the file that they are to point into.
public enum ACPILoaderFiles {
  private enum Command {
    static let allocate: UInt32 = 1
    static let addPointer: UInt32 = 2
    static let addChecksum: UInt32 = 3
    static let writePointer: UInt32 = 4
  }

  /// Zones of memory that a file can be given.
  private enum Zone {
    static let high: UInt8 = 1
    /// The BIOS area below 1 MiB.
    static let low: UInt8 = 2
  }

  private static let commandSize = 128
  private static let nameSize = 56
  private static let tablesName = "etc/acpi/tables"
  private static let rootName = "etc/acpi/rsdp"
  private static let identifierName = "etc/vmgenid_guid"
  /// The file into which firmware writes the address of the generation identifier, eight bytes.
  public static let identifierAddressName = "etc/vmgenid_addr"
  private static let scriptName = "etc/table-loader"

  /// The files that firmware reads, by name.
  public static func files(_ configuration: ACPIConfiguration) -> [(name: String, bytes: [UInt8])] {
    var layout = ACPITableLayout(configuration, at: 0)
    layout.clearChecksums()
    var root = ByteWriter(ACPITables.rootPointer(rsdt: layout.rsdt, xsdt: layout.xsdt))
    root.put(UInt8(0), at: 8)
    root.put(UInt8(0), at: 32)

    var script = ByteWriter()
    // The firmware control structure has to lie at a multiple of 64.
    allocate(&script, tablesName, alignment: 64, zone: Zone.high)
    allocate(&script, rootName, alignment: 16, zone: Zone.low)
    for pointer in layout.pointers { addPointer(&script, to: tablesName, pointer.offset, pointer.size) }
    addPointer(&script, to: rootName, 16, 4)
    addPointer(&script, to: rootName, 24, 8)
    if let field = layout.identifierPointer {
      allocate(&script, identifierName, alignment: UInt32(ACPITables.identifierPageSize), zone: Zone.high)
      addPointer(&script, to: tablesName, field, 4, of: identifierName)
      writePointer(&script, to: identifierAddressName, of: identifierName, ACPITables.identifierOffset)
    }
    for table in layout.tables {
      addChecksum(&script, tablesName, at: table.lowerBound + ACPITables.checksumOffset, over: table)
    }
    addChecksum(&script, rootName, at: 8, over: 0..<20)
    addChecksum(&script, rootName, at: 32, over: 0..<ACPITables.rootPointerSize)
    var files = [(tablesName, layout.bytes), (rootName, root.bytes), (scriptName, script.bytes)]
    if layout.identifierPointer != nil {
      files.append((identifierName, [UInt8](repeating: 0, count: Int(ACPITables.identifierPageSize))))
    }
    return files
  }

  private static func allocate(_ script: inout ByteWriter, _ file: String, alignment: UInt32, zone: UInt8) {
    add(&script, Command.allocate) { command in
      command.append(file, count: nameSize)
      command.append(alignment)
      command.append([zone])
    }
  }

  /// Adds the address of the tables, or of another file, to a field.
  private static func addPointer(
    _ script: inout ByteWriter, to file: String, _ offset: Int, _ size: Int, of target: String = tablesName
  ) {
    add(&script, Command.addPointer) { command in
      command.append(file, count: nameSize)
      command.append(target, count: nameSize)
      command.append(UInt32(offset))
      command.append([UInt8(size)])
    }
  }

  /// Has the firmware write the address of a place in a file to the beginning of another file, in eight bytes.
  private static func writePointer(
    _ script: inout ByteWriter, to file: String, of target: String, _ offset: UInt64
  ) {
    add(&script, Command.writePointer) { command in
      command.append(file, count: nameSize)
      command.append(target, count: nameSize)
      command.append(UInt32(0))
      command.append(UInt32(offset))
      command.append([8])
    }
  }

  private static func addChecksum(_ script: inout ByteWriter, _ file: String, at offset: Int, over range: Range<Int>) {
    add(&script, Command.addChecksum) { command in
      command.append(file, count: nameSize)
      command.append(UInt32(offset))
      command.append(UInt32(range.lowerBound))
      command.append(UInt32(range.count))
    }
  }

  private static func add(_ script: inout ByteWriter, _ number: UInt32, _ operands: (inout ByteWriter) -> Void) {
    var command = ByteWriter()
    command.append(number)
    operands(&command)
    command.pad(toMultipleOf: commandSize)
    script.append(command.bytes)
  }
}
