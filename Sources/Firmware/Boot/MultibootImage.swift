/// A kernel with a multiboot header: what to load where, and where to enter it (Multiboot Specification 0.6.96 and
/// Multiboot2 Specification 2.0).
///
/// Both versions put a header with a magic number and a checksum near the beginning of the file, whatever the file's
/// format. The header either says itself what to load, or the file is an ELF file whose program headers do. An entry point
/// is entered in 32-bit protected mode, also in a 64-bit ELF file.
public struct MultibootImage: Equatable, Sendable {
  public enum Version: Int, Sendable {
    case one = 1
    case two = 2
  }

  /// Where a kernel that can run anywhere wants to be.
  public struct Relocation: Equatable, Sendable {
    /// No byte of the image may be outside.
    public var range: Range<UInt64>
    /// A power of two.
    public var alignment: UInt64
    public var prefersHighest: Bool
    /// As it was linked, if that place is free.
    public var hasNoPreference: Bool
  }

  public let version: Version
  /// At least one.
  public let segments: [LoadSegment]
  /// Guest-physical, in one of the segments.
  public let entry: UInt64
  /// Nil: it runs only where its segments say.
  public let relocation: Relocation?

  /// How much of a file's beginning may hold the header, and at which multiples of bytes it stands.
  private static func search(_ version: Version) -> (magic: UInt32, limit: Int, step: Int, minimum: Int) {
    switch version {
    case .one: (0x1bad_b002, 8192, 4, 12)
    case .two: (0xe852_50d6, 32768, 8, 16)
    }
  }

  /// Where the header stands in a file that begins with `head`; nil: it has none of this version.
  static func headerOffset(in head: ByteView, version: Version) -> Int? {
    let search = search(version)
    let end = min(search.limit, head.bytes.count)
    return stride(from: 0, through: end - search.minimum, by: search.step).first { offset in
      guard head.load(offset, as: UInt32.self) == search.magic else { return false }
      // All fields up to the checksum and it itself add up to zero.
      let fields = (0..<search.minimum / 4).map { head.load(offset + 4 * $0, as: UInt32.self) ?? 0 }
      return fields.reduce(0, &+) == 0
    }
  }

  /// Puts together what a header said; `addresses` are its own, if it had any.
  init(
    version: Version, head: ByteView, headerOffset: Int, addresses: MultibootAddresses?, entry wanted: UInt64?,
    relocation: Relocation?, file: BootFile
  ) throws(BootFailure) {
    let entry: UInt64?
    if let addresses {
      segments = [try addresses.segment(headerOffset: headerOffset, file: file)]
      entry = wanted
    } else if ELFImage.isPresent(in: head) {
      let image = try ELFImage(head, file: file)
      segments = image.segments
      entry = wanted ?? image.entry
    } else {
      throw BootFailure(
        file.name, .malformed("it is no ELF file, and its multiboot header does not say where it is to be loaded"))
    }
    guard let entry, segments.contains(where: { $0.memory.contains(entry) }) else {
      let text = entry.map { " 0x" + String($0, radix: 16) } ?? ""
      throw BootFailure(file.name, .malformed("its entry point\(text) is in none of its segments"))
    }
    self.version = version
    self.entry = entry
    self.relocation = relocation
  }

  /// From the lowest to the highest byte.
  var extent: Range<UInt64> {
    let start = segments.map(\.memory.lowerBound).min() ?? 0
    return start..<(segments.map(\.memory.upperBound).max() ?? start)
  }
}

/// Where a multiboot header wants its file to be loaded, for files that say it in no other way. Guest-physical.
struct MultibootAddresses: Equatable {
  /// Of the header itself.
  var header: UInt32
  /// Of the first byte to load; nil: the file's first byte.
  var load: UInt32?
  /// End of what is loaded; zero: the file's end.
  var loadEnd: UInt32
  /// End of what is to be zero behind it; zero: there is nothing.
  var bssEnd: UInt32

  /// The one segment that this describes.
  func segment(headerOffset: Int, file: BootFile) throws(BootFailure) -> LoadSegment {
    func fail(_ what: String) -> BootFailure { BootFailure(file.name, .malformed("its multiboot header \(what)")) }
    let offset = UInt64(headerOffset)
    let header = UInt64(header)
    guard let start = load.map({ UInt64($0) }) ?? (header >= offset ? header - offset : nil), start <= header,
      header - start <= offset
    else { throw fail("is to be loaded outside of the loaded part") }
    let fileOffset = offset - (header - start)
    let available = file.size > fileOffset ? file.size - fileOffset : 0
    guard loadEnd == 0 || UInt64(loadEnd) > start else { throw fail("ends the loaded part before its beginning") }
    let fileSize = loadEnd == 0 ? available : UInt64(loadEnd) - start
    let end = start + fileSize
    guard bssEnd == 0 || UInt64(bssEnd) >= end else { throw fail("ends its memory before the loaded part") }
    guard file.contains(fileOffset, count: fileSize) else {
      throw BootFailure(file.name, .truncated(needs: fileOffset + fileSize, has: file.size))
    }
    let memory = start..<max(end, UInt64(bssEnd))
    guard !memory.isEmpty else { throw fail("loads nothing") }
    return LoadSegment(fileOffset: fileOffset, fileSize: fileSize, memory: memory)
  }
}
