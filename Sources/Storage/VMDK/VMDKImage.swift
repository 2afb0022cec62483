/// A disk in VMware's format ("VMware Virtual Disks, Virtual Disk Format 5.0"), read-only.
///
/// A descriptor, a small text, lists extents, one behind the other: files that hold a part of the disk as it is (flat), or
/// by grains with a table (sparse, and compressed in stream-optimized images). The descriptor is a file of its own or
/// within the only, sparse, extent.
public final class VMDKImage: ReadOnlyImage {
  /// A part of the disk.
  private struct Part {
    enum Contents {
      case zero
      case flat(any ImageFile, offset: UInt64)
      case sparse(VMDKSparseExtent)
    }
    /// On the disk, in bytes.
    var range: Range<UInt64>
    var contents: Contents
  }

  public let name: String
  public let size: UInt64
  private let file: any ImageFile
  private let parts: [Part]

  /// The beginning of a descriptor that is a file of its own.
  static let descriptorSignature = Array("# Disk DescriptorFile".utf8)

  /// Opens the image in `file`. `open` opens the files of its extents, by their paths beside it.
  init(
    _ file: any ImageFile, open: (String) throws(ImageFailure) -> any ImageFile
  ) throws(ImageFailure) {
    name = file.name
    self.file = file
    let head = try file.bytes(at: 0, count: 4, what: "header")
    if head == VMDKSparseExtent.signature {
      let extent = try VMDKSparseExtent(file)
      if let text = try extent.descriptor() { try VMDKDescriptor(text, of: file.name).requireNoParent(file.name) }
      parts = [Part(range: 0..<extent.size, contents: .sparse(extent))]
    } else {
      let length = try file.size()
      guard length <= VMDKDescriptor.limit else {
        throw ImageFailure(file.name, .corrupt("its descriptor has \(length) bytes"))
      }
      let descriptor = try VMDKDescriptor(
        try file.bytes(at: 0, count: Int(length), what: "descriptor"), of: file.name)
      try descriptor.requireNoParent(file.name)
      parts = try Self.parts(descriptor, file.name, open)
    }
    size = parts.last?.range.upperBound ?? 0
  }

  private static func parts(
    _ descriptor: VMDKDescriptor, _ name: String, _ open: (String) throws(ImageFailure) -> any ImageFile
  ) throws(ImageFailure) -> [Part] {
    var parts: [Part] = []
    var start: UInt64 = 0
    for extent in descriptor.extents {
      let (end, overflow) = start.addingReportingOverflow(extent.size)
      guard !overflow, end < 1 << 62 else { throw ImageFailure(name, .corrupt("its extents are larger than any disk")) }
      let contents: Part.Contents
      switch extent.kind {
      case .zero: contents = .zero
      case .flat: contents = .flat(try open(extent.path), offset: extent.offset)
      case .sparse:
        let sparse = try VMDKSparseExtent(try open(extent.path))
        guard sparse.size >= extent.size else {
          throw ImageFailure(name, .corrupt("extent '\(extent.path)' is smaller than the descriptor says"))
        }
        contents = .sparse(sparse)
      }
      parts.append(Part(range: start..<end, contents: contents))
      start = end
    }
    return parts
  }

  public func read(_ buffers: [UnsafeMutableRawBufferPointer], at offset: UInt64) throws(ImageFailure) {
    let end = offset &+ UInt64(buffers.byteCount)
    try requireRange(at: offset, count: UInt64(buffers.byteCount))
    for part in parts where part.range.overlaps(offset..<end) {
      let range = part.range.clamped(to: offset..<end)
      let wanted = buffers.part(Int(range.lowerBound - offset)..<Int(range.upperBound - offset))
      let inPart = range.lowerBound - part.range.lowerBound
      switch part.contents {
      case .zero: wanted.clear()
      case .flat(let file, let start): try file.read(wanted, at: start &+ inPart)
      case .sparse(let extent): try extent.read(wanted, at: inPart)
      }
    }
  }

  public func extent(at offset: UInt64) throws(ImageFailure) -> ImageExtent {
    try requireRange(at: offset, count: 1)
    guard let part = parts.first(where: { $0.range.contains(offset) }) else {
      return ImageExtent(length: size - offset, isZero: true)
    }
    let rest = part.range.upperBound - offset
    var found: ImageExtent
    switch part.contents {
    case .zero: found = ImageExtent(length: rest, isZero: true)
    case .flat(let file, let start): found = try file.extent(at: start &+ (offset - part.range.lowerBound))
    case .sparse(let extent): found = try extent.extent(at: offset - part.range.lowerBound)
    }
    found.length = min(found.length, rest)
    return found
  }

  public func close() throws(ImageFailure) { file.unlock() }
}
