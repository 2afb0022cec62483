/// An ELF kernel with a PVH entry note: what to load where, and where to enter it (System V ABI; Xen's
/// include/public/elfnote.h and "x86/HVM direct boot ABI" for the note).
public struct ELFImage: Equatable, Sendable {
  /// A PT_LOAD program header.
  public struct Segment: Equatable, Sendable {
    public let fileOffset: UInt64
    public let fileSize: UInt64
    /// Guest-physical; the part beyond `fileSize` is zero. Not empty.
    public let memory: Range<UInt64>
  }

  public let segments: [Segment]
  /// Guest-physical address of the 32-bit entry point.
  public let entry: UInt64

  /// How many program headers are believed.
  private static let headerLimit = 1024
  /// How large a note segment is read.
  private static let noteLimit: UInt64 = 1 << 20

  static func isPresent(in head: ByteView) -> Bool { head.has([0x7f] + Array("ELF".utf8), at: 0) }

  /// Reads and checks the headers of an ELF file that begins with `head`.
  init(_ head: ByteView, file: BootFile) throws(BootFailure) {
    guard head.bytes.count >= 0x40 else { throw BootFailure(file.name, .truncated(needs: 0x40, has: file.size)) }
    guard head.bytes[5] == 1, let machine: UInt16 = head.load(0x12) else {
      throw BootFailure(file.name, .foreignELF(machine: nil))
    }
    let is64Bit: Bool
    switch (head.bytes[4], machine) {
    case (1, 3): is64Bit = false
    case (2, 62): is64Bit = true
    default: throw BootFailure(file.name, .foreignELF(machine: machine))
    }

    let headers = try Self.programHeaders(head, is64Bit: is64Bit, file: file)
    var segments: [Segment] = []
    var entry: UInt64?
    for header in headers {
      switch header.type {
      case 1: if let segment = try Self.segment(header, file: file) { segments.append(segment) }
      case 4: if entry == nil { entry = try Self.entry(inNotes: header, file: file) }
      default: break
      }
    }
    guard let entry else { throw BootFailure(file.name, .noEntryNote) }
    guard segments.contains(where: { $0.memory.contains(entry) }) else {
      throw BootFailure(
        file.name, .malformed("its entry point 0x\(String(entry, radix: 16)) is in none of its segments"))
    }
    self.segments = segments
    self.entry = entry
  }

  private struct ProgramHeader {
    var type: UInt32
    var offset, physicalAddress, fileSize, memorySize, alignment: UInt64

    /// `view` holds at least a whole header.
    init?(_ view: ByteView, is64Bit: Bool) {
      func field<T: FixedWidthInteger & UnsignedInteger>(_ offset: Int, _: T.Type) -> UInt64? {
        view.load(offset, as: T.self).map { UInt64($0) }
      }
      guard let type: UInt32 = view.load(0),
        let offset = is64Bit ? field(0x08, UInt64.self) : field(0x04, UInt32.self),
        let physicalAddress = is64Bit ? field(0x18, UInt64.self) : field(0x0c, UInt32.self),
        let fileSize = is64Bit ? field(0x20, UInt64.self) : field(0x10, UInt32.self),
        let memorySize = is64Bit ? field(0x28, UInt64.self) : field(0x14, UInt32.self),
        let alignment = is64Bit ? field(0x30, UInt64.self) : field(0x1c, UInt32.self)
      else { return nil }
      self.type = type
      self.offset = offset
      self.physicalAddress = physicalAddress
      self.fileSize = fileSize
      self.memorySize = memorySize
      self.alignment = alignment
    }
  }

  private static func programHeaders(
    _ head: ByteView, is64Bit: Bool, file: BootFile
  ) throws(BootFailure) -> [ProgramHeader] {
    let table = is64Bit ? head.load(0x20, as: UInt64.self) : head.load(0x1c, as: UInt32.self).map { UInt64($0) }
    let size = head.load(is64Bit ? 0x36 : 0x2a, as: UInt16.self)
    let count = head.load(is64Bit ? 0x38 : 0x2c, as: UInt16.self)
    guard let table, let size, let count, Int(size) >= (is64Bit ? 0x38 : 0x20), (1...headerLimit).contains(Int(count))
    else { throw BootFailure(file.name, .malformed("its ELF header describes no program headers")) }
    let bytes = try file.bytes(at: table, count: Int(size) * Int(count))
    return (0..<Int(count)).compactMap {
      let start = $0 * Int(size)
      return ProgramHeader(ByteView(Array(bytes[start..<start + Int(size)])), is64Bit: is64Bit)
    }
  }

  /// Nil: it takes no memory.
  private static func segment(_ header: ProgramHeader, file: BootFile) throws(BootFailure) -> Segment? {
    guard header.memorySize > 0 else { return nil }
    let (end, overflow) = header.physicalAddress.addingReportingOverflow(header.memorySize)
    guard !overflow, header.fileSize <= header.memorySize else {
      throw BootFailure(file.name, .malformed("a segment is larger than its memory"))
    }
    guard file.contains(header.offset, count: header.fileSize) else {
      throw BootFailure(
        file.name, .truncated(needs: header.offset.addingClamped(header.fileSize), has: file.size))
    }
    return Segment(
      fileOffset: header.offset, fileSize: header.fileSize, memory: header.physicalAddress..<end)
  }

  /// The value of XEN_ELFNOTE_PHYS32_ENTRY in a PT_NOTE segment, if it is there. Notes are aligned to 4 bytes, or 8 in
  /// segments that say so.
  private static func entry(inNotes header: ProgramHeader, file: BootFile) throws(BootFailure) -> UInt64? {
    guard header.fileSize <= noteLimit else { return nil }
    let notes = ByteView(try file.bytes(at: header.offset, count: Int(header.fileSize)))
    let alignment: UInt64 = header.alignment == 8 ? 8 : 4
    var offset = 0
    while let nameSize: UInt32 = notes.load(offset), let valueSize: UInt32 = notes.load(offset + 4),
      let type: UInt32 = notes.load(offset + 8)
    {
      guard let value = (UInt64(offset) + 12 + UInt64(nameSize)).roundedUp(to: alignment),
        let next = (value + UInt64(valueSize)).roundedUp(to: alignment), next <= UInt64(notes.bytes.count) + 7
      else { return nil }
      if type == 18, nameSize == 4, notes.has("Xen\0".utf8, at: offset + 12) {
        return valueSize >= 8
          ? notes.load(Int(value), as: UInt64.self) : notes.load(Int(value), as: UInt32.self).map { UInt64($0) }
      }
      offset = Int(next)
    }
    return nil
  }
}
