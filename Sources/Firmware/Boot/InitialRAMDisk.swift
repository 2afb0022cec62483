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

  /// Loads `file` into the highest whole pages of `room`. Returns where it is.
  static func load(
    _ file: BootFile, check: Check, room: Range<UInt64>, memory: GuestMemory
  ) throws(BootFailure) -> Range<UInt64> {
    guard file.size > 0 else { throw BootFailure(file.name, .empty) }
    if check == .linuxFormats {
      let head = try file.head(FileFormat.headSize)
      // Linux skips zeros before an archive.
      let format = FileFormat(ByteView(head)) ?? FileFormat(ByteView(Array(head.drop { $0 == 0 })))
      guard let format, format.isRAMDisk else { throw BootFailure(file.name, .notARAMDisk(found: format?.rawValue)) }
    }
    let start = room.upperBound >= file.size ? (room.upperBound - file.size) & ~0xfff : 0
    guard start >= room.lowerBound, room.upperBound >= file.size else {
      throw BootFailure(file.name, .ramDiskDoesNotFit(size: file.size, room: room.upperBound - room.lowerBound))
    }
    try memory.load(file, at: 0, count: file.size, to: start)
    return start..<start + file.size
  }
}
