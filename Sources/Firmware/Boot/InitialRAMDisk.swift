import Memory

/// The initial RAM disk: as high in memory as the kernel can reach it, out of the way of a kernel that unpacks itself.
enum InitialRAMDisk {
  /// What a loader may be told of a RAM disk.
  enum Check {
    /// The kernel is Linux, which takes known formats only.
    case linuxFormats
    /// The kernel may understand anything.
    case none
  }

  /// Parts begin at multiples of this, as Linux's cpio unpacker wants them; what is between is zero.
  private static let partAlignment: UInt64 = 4

  /// Loads `files`, one behind another, into the highest whole pages of `room`. Returns where they are; nil: there are
  /// none.
  static func load(
    _ files: [BootFile], check: Check, room: Range<UInt64>, memory: GuestMemory
  ) throws(BootFailure) -> Range<UInt64>? {
    var size: UInt64 = 0
    var offsets: [UInt64] = []
    for file in files {
      guard file.size > 0 else { throw BootFailure(file.name, .empty) }
      if check == .linuxFormats { try checkFormat(file) }
      let offset = size.roundedUp(to: partAlignment) ?? .max
      offsets.append(offset)
      size = offset.addingClamped(file.size)
      guard size <= room.upperBound, (room.upperBound - size) & ~0xfff >= room.lowerBound else {
        throw BootFailure(file.name, .ramDiskDoesNotFit(size: size, room: room.upperBound - room.lowerBound))
      }
    }
    guard size > 0 else { return nil }
    let start = (room.upperBound - size) & ~0xfff
    var end = start
    for (file, offset) in zip(files, offsets) {
      memory.clear(end..<start + offset)
      try memory.load(file, at: 0, count: file.size, to: start + offset)
      end = start + offset + file.size
    }
    return start..<start + size
  }

  private static func checkFormat(_ file: BootFile) throws(BootFailure) {
    let head = try file.head(FileFormat.headSize)
    // Linux skips zeros before an archive.
    let format = FileFormat(ByteView(head)) ?? FileFormat(ByteView(Array(head.drop { $0 == 0 })))
    guard let format, format.isRAMDisk else { throw BootFailure(file.name, .notARAMDisk(found: format?.rawValue)) }
  }
}
