/// An ELF kernel: what to load where, and where it can be entered (System V ABI; for the note, Xen's
/// include/public/elfnote.h and "x86/HVM direct boot ABI").
public struct ELFImage: Equatable, Sendable {
  /// The PT_LOAD program headers that take memory.
  public let segments: [LoadSegment]
  /// Guest-physical address of the entry point that the ELF header names; nil: it is in no segment.
  public let entry: UInt64?
  /// Guest-physical address of the 32-bit entry point in a PVH note.
  public let noteEntry: UInt64?

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
    let start = is64Bit ? head.load(0x18, as: UInt64.self) : head.load(0x18, as: UInt32.self).map { UInt64($0) }
    var segments: [LoadSegment] = []
    var entry: UInt64?
    var noteEntry: UInt64?
    for header in headers {
      switch header.type {
      case 1:
        guard let segment = try Self.segment(header, file: file) else { continue }
        segments.append(segment)
        // The header names a virtual address, and kernels may be linked for another one than they are loaded at.
        if entry == nil, let start, start &- header.virtualAddress < header.memorySize {
          entry = start &- header.virtualAddress &+ header.physicalAddress
        }
      case 4: if noteEntry == nil { noteEntry = try Self.entry(inNotes: header, file: file) }
      default: break
      }
    }
    if entry == nil, let start, segments.contains(where: { $0.memory.contains(start) }) { entry = start }
    self.segments = segments
    self.entry = entry
    self.noteEntry = noteEntry
  }

  private struct ProgramHeader {
    var type: UInt32
    var offset, virtualAddress, physicalAddress, fileSize, memorySize, alignment: UInt64

    /// `view` holds at least a whole header.
    init?(_ view: ByteView, is64Bit: Bool) {
      func field<T: FixedWidthInteger & UnsignedInteger>(_ offset: Int, _: T.Type) -> UInt64? {
        view.load(offset, as: T.self).map { UInt64($0) }
      }
      guard let type: UInt32 = view.load(0),
        let offset = is64Bit ? field(0x08, UInt64.self) : field(0x04, UInt32.self),
        let virtualAddress = is64Bit ? field(0x10, UInt64.self) : field(0x08, UInt32.self),
        let physicalAddress = is64Bit ? field(0x18, UInt64.self) : field(0x0c, UInt32.self),
        let fileSize = is64Bit ? field(0x20, UInt64.self) : field(0x10, UInt32.self),
        let memorySize = is64Bit ? field(0x28, UInt64.self) : field(0x14, UInt32.self),
        let alignment = is64Bit ? field(0x30, UInt64.self) : field(0x1c, UInt32.self)
      else { return nil }
      self.type = type
      self.offset = offset
      self.virtualAddress = virtualAddress
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
  private static func segment(_ header: ProgramHeader, file: BootFile) throws(BootFailure) -> LoadSegment? {
    guard header.memorySize > 0 else { return nil }
    let (end, overflow) = header.physicalAddress.addingReportingOverflow(header.memorySize)
    guard !overflow, header.fileSize <= header.memorySize else {
      throw BootFailure(file.name, .malformed("a segment is larger than its memory"))
    }
    guard file.contains(header.offset, count: header.fileSize) else {
      throw BootFailure(
        file.name, .truncated(needs: header.offset.addingClamped(header.fileSize), has: file.size))
    }
    return LoadSegment(
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
