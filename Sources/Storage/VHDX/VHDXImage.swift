/// A disk in Hyper-V's format ("[MS-VHDX]: Virtual Hard Disk v2 (VHDX) File Format"), read-only.
public final class VHDXImage: ReadOnlyImage {
  public let name: String
  public let size: UInt64
  private let file: any ImageFile
  /// In bytes.
  private let blockSize: UInt64
  /// Payload blocks between two of the table's entries for sector bitmaps.
  private let chunkRatio: UInt64
  /// The block allocation table: state and place of each block.
  private let table: [UInt64]

  static let signature = Array("vhdxfile".utf8)

  /// What the table says of a block.
  private enum State: UInt64 {
    case notPresent = 0
    case undefined = 1
    case zero = 2
    case unmapped = 3
    case present = 6
    case partiallyPresent = 7
  }

  init(_ file: any ImageFile) throws(ImageFailure) {
    name = file.name
    self.file = file
    guard try file.bytes(at: 0, count: 8, what: "header") == Self.signature else {
      throw ImageFailure(file.name, .invalid("it is no VHDX image: its first bytes are not 'vhdxfile'"))
    }
    let header = try VHDXHeader(of: file)
    guard !header.hasLog else {
      throw ImageFailure(
        file.name,
        .unsupported("it was not closed in good order, and its log must be replayed: 'qemu-img check -r all' does that")
      )
    }
    let regions = try VHDXRegions(of: file)
    let metadata = try VHDXMetadata(of: file, at: regions.metadata)
    size = metadata.diskSize
    blockSize = UInt64(metadata.blockSize)
    chunkRatio = (1 << 23) * UInt64(metadata.sectorSize) / blockSize
    let blocks = (size + blockSize - 1) / blockSize
    let entries = blocks + (blocks == 0 ? 0 : (blocks - 1) / chunkRatio)
    guard entries * 8 <= regions.blocks.count else {
      throw ImageFailure(file.name, .corrupt("its block table is too small for a disk of \(size) bytes"))
    }
    let bytes = try file.bytes(at: regions.blocks.lowerBound, count: Int(entries) * 8, what: "block table")
    table = (0..<Int(entries)).map { bytes.littleEndian(at: $0 * 8) }
  }

  /// Where a block is in the file; nil: it is zero.
  private func place(_ block: UInt64) throws(ImageFailure) -> UInt64? {
    let entry = table[Int(block + block / chunkRatio)]
    switch State(rawValue: entry & 7) {
    case .notPresent, .undefined, .zero, .unmapped: return nil
    case .present: return entry & ~0xf_ffff
    case .partiallyPresent, nil:
      throw ImageFailure(name, .corrupt("block \(block) has the state \(entry & 7), which cannot be"))
    }
  }

  public func read(_ buffers: [UnsafeMutableRawBufferPointer], at offset: UInt64) throws(ImageFailure) {
    let count = buffers.byteCount
    try requireRange(at: offset, count: UInt64(count))
    var done = 0
    while done < count {
      let position = offset + UInt64(done)
      let length = Int(min(blockSize - position % blockSize, UInt64(count - done)))
      let part = buffers.part(done..<done + length)
      if let place = try place(position / blockSize) {
        guard try file.read(part, at: place &+ position % blockSize) == length else {
          throw ImageFailure(name, .truncated(what: "blocks"))
        }
      } else {
        part.clear()
      }
      done += length
    }
  }

  public func extent(at offset: UInt64) throws(ImageFailure) -> ImageExtent {
    try requireRange(at: offset, count: 1)
    let isZero = try place(offset / blockSize) == nil
    var end = (offset / blockSize + 1) * blockSize
    while end < size, (try place(end / blockSize) == nil) == isZero { end += blockSize }
    return ImageExtent(length: min(end, size) - offset, isZero: isZero)
  }

  public func close() throws(ImageFailure) { file.unlock() }
}
