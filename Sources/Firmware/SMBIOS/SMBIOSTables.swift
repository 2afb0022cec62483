import Memory

/// The System Management BIOS tables of the machine: what an inventory program prints (DMTF DSP0134, version 2.8).
///
/// They go to firmware as two files of the configuration device, an entry point without an address and the structures;
/// firmware puts both into memory and completes the entry point. For a system that starts without firmware, `install` does
/// so.
public struct SMBIOSTables {
  /// Where the entry point and the structures are, where there is no firmware. Systems look for the entry point on every
  /// 16 bytes from 0xf0000 on.
  static let area: Range<UInt64> = 0xf_4000..<0xf_c000
  private static let entryPointSize = 0x1f

  /// Handles: the type in the upper byte, a number in the lower one.
  private enum Handle {
    static let firmware: UInt16 = 0x0000
    static let system: UInt16 = 0x0100
    static let chassis: UInt16 = 0x0300
    static let processor: UInt16 = 0x0400
    static let memoryArray: UInt16 = 0x1000
    static let memoryDevice: UInt16 = 0x1100
    static let memoryAddress: UInt16 = 0x1300
    static let bootState: UInt16 = 0x2000
    static let end: UInt16 = 0x7f00
  }

  /// "None", where a structure could point at another.
  private static let noHandle: UInt16 = 0xffff
  private static let noError: UInt16 = 0xfffe
  private static let vendor = "Ringside"

  private var structures = ByteWriter()
  private var count = 0
  private var longest = 0

  /// The tables of a machine whose RAM lies in `memory`.
  public init(memory: [Range<UInt64>], processorCount: Int) {
    addFirmware()
    addSystem()
    addChassis()
    for number in 0..<UInt16(clamping: processorCount) { addProcessor(number) }
    addMemory(memory)
    // Boot status: no error; six reserved bytes before it.
    add(32, Handle.bootState) { $0.append([UInt8](repeating: 0, count: 7)) }
    add(127, Handle.end) { _ in }
  }

  /// The files "etc/smbios/smbios-anchor" and "etc/smbios/smbios-tables".
  public var files: [(name: String, bytes: [UInt8])] {
    [("etc/smbios/smbios-anchor", entryPoint.bytes), ("etc/smbios/smbios-tables", structures.bytes)]
  }

  /// Writes the tables into guest memory, which must not be running.
  public func install(in memory: GuestMemory) {
    let address = (Self.area.lowerBound + UInt64(Self.entryPointSize) + 15) & ~15
    precondition(address + UInt64(structures.bytes.count) <= Self.area.upperBound, "64 processors fit")
    var point = entryPoint
    point.put(UInt32(address), at: Field.address)
    point.putChecksum(at: Field.intermediateChecksum, over: Field.intermediateAnchor..<Self.entryPointSize)
    point.putChecksum(at: Field.checksum)
    memory.place(point.bytes, at: Self.area.lowerBound)
    memory.place(structures.bytes, at: address)
  }

  /// Offsets in the entry point.
  private enum Field {
    static let checksum = 4
    static let intermediateAnchor = 0x10
    static let intermediateChecksum = 0x15
    static let address = 0x18
  }

  /// The 32-bit entry point (5.2.1), without checksums and address.
  private var entryPoint: ByteWriter {
    var point = ByteWriter()
    point.append("_SM_", count: 4)
    // Checksum, length, version.
    point.append([0, UInt8(Self.entryPointSize), 2, 8])
    point.append(UInt16(clamping: longest))
    point.append([0, 0, 0, 0, 0, 0])
    point.append("_DMI_", count: 5)
    point.append([0])
    point.append(UInt16(clamping: structures.bytes.count))
    point.append(UInt32(0))
    point.append(UInt16(clamping: count))
    // Version as binary-coded decimal.
    point.append([0x28])
    return point
  }

  private mutating func addFirmware() {
    add(0, Handle.firmware, [Self.vendor, "1", "01/01/2025"]) { body in
      body.append([1, 2])
      // Where the BIOS begins, as a segment; its date; its size in 64 KiB units, less one.
      body.append(UInt16(0xe800))
      body.append([3, 0])
      // Characteristics are not offered; the machine is virtual; targeted content distribution is on, as Windows wants it.
      body.append(UInt64(1 << 3))
      body.append([0, 0x14])
      // Releases of the BIOS and of an embedded controller: none.
      body.append([0, 0, 0xff, 0xff])
    }
  }

  private mutating func addSystem() {
    add(1, Handle.system, [Self.vendor, "Virtual PC", "1"]) { body in
      body.append([1, 2, 3, 0])
      // No UUID is set.
      body.append([UInt8](repeating: 0, count: 16))
      // Woken by the power switch; no SKU number, no family.
      body.append([6, 0, 0])
    }
  }

  private mutating func addChassis() {
    add(3, Handle.chassis, [Self.vendor, "1"]) { body in
      // Manufacturer, type "other", version, no serial and asset number.
      body.append([1, 1, 2, 0, 0])
      // States "safe", no security; vendor's word, height, power cords, contained elements, SKU number.
      body.append([3, 3, 3, 2])
      body.append(UInt32(0))
      body.append([0, 0, 0, 0, 0])
    }
  }

  private mutating func addProcessor(_ number: UInt16) {
    add(4, Handle.processor + number, ["CPU \(number)", Self.vendor, "virtual"]) { body in
      // Socket, central processor, family "other", manufacturer, identification, version.
      body.append([1, 3, 1, 2])
      body.append(UInt64(0))
      body.append([3, 0])
      // Clocks and speeds are unknown.
      body.append(UInt16(0))
      body.append(UInt16(0))
      body.append(UInt16(0))
      // Populated and enabled; upgrade "other"; no cache is described.
      body.append([0x41, 1])
      for _ in 0..<3 { body.append(Self.noHandle) }
      // Serial, asset and part number; cores, enabled cores, threads.
      body.append([0, 0, 0, 1, 1, 1])
      // Characteristics: 64-bit capable.
      body.append(UInt16(1 << 2))
      body.append(UInt16(1))
    }
  }

  /// Type 16, and a type 17 and 19 for each range of RAM.
  private mutating func addMemory(_ ranges: [Range<UInt64>]) {
    let size = ranges.map { UInt64($0.count) }.reduce(0, +)
    add(16, Handle.memoryArray) { body in
      // Other place, system memory, no error correction that is known of.
      body.append([1, 3, 2])
      // In KiB; what is too much for the field goes to the extended one, in bytes.
      let isLarge = size >> 10 >= 1 << 31
      body.append(isLarge ? 1 << 31 : UInt32(size >> 10))
      body.append(Self.noError)
      body.append(UInt16(1))
      body.append(isLarge ? size : 0)
    }
    add(17, Handle.memoryDevice, ["DIMM 0", Self.vendor]) { body in
      body.append(Handle.memoryArray)
      body.append(Self.noError)
      // Widths are unknown.
      body.append(UInt16(0xffff))
      body.append(UInt16(0xffff))
      let megabytes = size >> 20
      let isLarge = megabytes >= 0x7fff
      body.append(isLarge ? 0x7fff : UInt16(megabytes))
      // DIMM, in no set, locator, no bank; type RAM, other details; speed unknown; manufacturer.
      body.append([9, 0, 1, 0, 7])
      body.append(UInt16(1 << 1))
      body.append(UInt16(0))
      body.append([2, 0, 0, 0, 0])
      body.append(isLarge ? UInt32(clamping: megabytes) : 0)
      // Configured speed; voltages.
      for _ in 0..<4 { body.append(UInt16(0)) }
    }
    for (number, range) in ranges.enumerated() {
      add(19, Handle.memoryAddress + UInt16(clamping: number)) { body in
        // In KiB; what is too much goes to the extended fields, in bytes.
        let (first, last) = (range.lowerBound >> 10, (range.upperBound - 1) >> 10)
        let isLarge = last >= UInt64(UInt32.max)
        body.append(isLarge ? UInt32.max : UInt32(first))
        body.append(isLarge ? UInt32.max : UInt32(last))
        body.append(Handle.memoryArray)
        body.append([1])
        body.append(isLarge ? range.lowerBound : 0)
        body.append(isLarge ? range.upperBound - 1 : 0)
      }
    }
  }

  /// Adds a structure: header, body, and its strings, which the body names by their place from 1 on.
  private mutating func add(
    _ type: UInt8, _ handle: UInt16, _ strings: [String] = [], _ body: (inout ByteWriter) -> Void
  ) {
    var structure = ByteWriter()
    structure.append([type, 0])
    structure.append(handle)
    body(&structure)
    structure.put(UInt8(structure.bytes.count), at: 1)
    for text in strings { structure.append(Array(text.utf8) + [0]) }
    structure.append(strings.isEmpty ? [0, 0] : [0])
    structures.append(structure.bytes)
    count += 1
    longest = max(longest, structure.bytes.count)
  }
}
