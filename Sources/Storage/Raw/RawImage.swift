import Host
import Synchronization

/// A disk whose bytes are the file's.
///
/// A file whose size is not a multiple of 512 is a disk with zeroes up to the next one; writing there makes the file
/// longer.
public final class RawImage: ResizableImage {
  private let file: any ImageFile
  /// The file's own size, when it was opened or resized.
  private let knownSize: Atomic<UInt64>
  private var fileSize: UInt64 { knownSize.load(ordering: .relaxed) }
  // File sizes are below 2^63, so this does not overflow.
  public var size: UInt64 { (fileSize + 511) & ~511 }
  /// Nobody said that the file is raw, it only looks so: the guest must not make it look otherwise, because at the next
  /// start it would be taken for an image, one that names the host's files as its backing files.
  private let guardsFirstSector: Bool
  /// Held by writes to a guarded first sector: each looks at the sector as it will be.
  private let firstSector = Monitor()

  public var name: String { file.name }
  public var isReadOnly: Bool { file.isReadOnly }

  public init(_ file: any ImageFile, guardsFirstSector: Bool = false) throws(ImageFailure) {
    self.file = file
    self.guardsFirstSector = guardsFirstSector
    knownSize = Atomic(try file.size())
  }

  public func read(_ buffers: [UnsafeMutableRawBufferPointer], at offset: UInt64) throws(ImageFailure) {
    let count = buffers.byteCount
    try requireRange(at: offset, count: UInt64(count))
    let done = try file.read(buffers, at: offset)
    // Zeroes from beyond the end are right in the last sector only; elsewhere they would hide that somebody has cut the
    // file off.
    guard done == count || offset + UInt64(done) >= fileSize else { throw ImageFailure(name, .truncated(what: "disk")) }
  }

  public func write(_ buffers: [UnsafeRawBufferPointer], at offset: UInt64) throws(ImageFailure) {
    try requireWritable(at: offset, count: UInt64(buffers.byteCount))
    guard guardsFirstSector, offset < UInt64(ImageFormat.probeLength) else {
      return try file.write(buffers, at: offset)
    }
    firstSector.lock()
    defer { firstSector.unlock() }
    try refuseDisguise(buffers, at: Int(offset))
    try file.write(buffers, at: offset)
  }

  /// Refuses a write after which the first sector would be that of an image.
  private func refuseDisguise(_ buffers: [UnsafeRawBufferPointer], at offset: Int) throws(ImageFailure) {
    let length = ImageFormat.probeLength
    var sector = [UInt8](repeating: 0, count: length)
    let count = min(buffers.byteCount, length - offset)
    let result = sector.withUnsafeMutableBytes { sector in
      Result { () throws(ImageFailure) in
        if count < length { try file.read([sector], at: 0) }
        buffers.part(0..<count).copy(to: sector.part(offset..<offset + count))
        return ImageFormat.signature(of: UnsafeRawBufferPointer(sector))
      }
    }
    if let signature = try result.get() { throw ImageFailure(name, .disguise(signature)) }
  }

  public func flush() throws(ImageFailure) { try file.flush() }

  public func writeZeroes(_ range: Range<UInt64>, mayUnmap: Bool) throws(ImageFailure) {
    try requireWritable(at: range.lowerBound, count: range.upperBound - range.lowerBound)
    let inFile = range.clamped(to: 0..<fileSize)
    // Zeroes in part of the first sector can uncover nothing: every signature has bytes that are not zero, but a write
    // may have put one there up to a byte that this clears, so it is looked at as any other write.
    if guardsFirstSector, range.lowerBound < UInt64(ImageFormat.probeLength) {
      let end = min(range.upperBound, UInt64(ImageFormat.probeLength))
      let zeroes = [UInt8](repeating: 0, count: Int(end - range.lowerBound))
      let result = zeroes.withUnsafeBytes { zeroes in
        Result { () throws(ImageFailure) in try write([zeroes], at: range.lowerBound) }
      }
      try result.get()
    }
    try file.writeZeroes(inFile, mayUnmap: mayUnmap)
  }

  public func discard(_ range: Range<UInt64>) throws(ImageFailure) {
    try requireWritable(at: range.lowerBound, count: range.upperBound - range.lowerBound)
    var range = range.clamped(to: 0..<fileSize)
    // Discarding is optional: a guarded sector is left as it is.
    if guardsFirstSector { range = range.clamped(to: UInt64(ImageFormat.probeLength)..<max(range.upperBound, 512)) }
    try file.discard(range)
  }

  public func extent(at offset: UInt64) throws(ImageFailure) -> ImageExtent {
    try requireRange(at: offset, count: 1)
    var extent = try file.extent(at: offset)
    extent.length = min(extent.length, size - offset)
    return extent
  }

  public func resize(to newSize: UInt64) throws(ImageFailure) {
    guard !isReadOnly else { throw ImageFailure(name, .readOnly) }
    try file.resize(to: newSize)
    knownSize.store(newSize, ordering: .relaxed)
  }

  public func close() throws(ImageFailure) {
    if !isReadOnly { try flush() }
    file.unlock()
  }
}
