/// The file beneath an image, as formats use it: any byte of it, from several threads at once.
///
/// There is one behind every image, `HostFile`; tests put others there.
public protocol ImageFile: AnyObject, Sendable {
  /// As the user gave it.
  var name: String { get }
  var isReadOnly: Bool { get }
  /// What has never been written beyond the end reads as zeroes once the file is longer.
  var isZeroBeyondEnd: Bool { get }

  /// In bytes, as it is now.
  func size() throws(ImageFailure) -> UInt64

  /// Fills the buffers from `offset` on. Beyond the file's end there are zeroes. Returns how many bytes came from the
  /// file.
  @discardableResult
  func read(_ buffers: [UnsafeMutableRawBufferPointer], at offset: UInt64) throws(ImageFailure) -> Int

  /// Writes all of the buffers; the file becomes longer where needed.
  func write(_ buffers: [UnsafeRawBufferPointer], at offset: UInt64) throws(ImageFailure)

  /// All that was written before is on stable storage when it returns, the file's size included.
  func flush() throws(ImageFailure)

  /// Cuts the file off, or makes it longer by a hole.
  func resize(to size: UInt64) throws(ImageFailure)

  /// Makes a range of the file read as zeroes, and not longer. With `mayUnmap`, its blocks may go.
  func writeZeroes(_ range: Range<UInt64>, mayUnmap: Bool) throws(ImageFailure)

  /// Gives a range's blocks back where the host can; elsewhere nothing happens.
  func discard(_ range: Range<UInt64>) throws(ImageFailure)

  /// Reserves the host's blocks for a range.
  func reserve(_ range: Range<UInt64>) throws(ImageFailure)

  /// Whether `offset` lies in a hole, and where that ends; beyond the file's end is a hole without an end (`.max`).
  func extent(at offset: UInt64) throws(ImageFailure) -> ImageExtent

  /// Lets others have the file. The last call.
  func unlock()
}

extension ImageFile {
  /// Reads `count` bytes that must all be in the file; `what` they are goes into the error.
  func bytes(at offset: UInt64, count: Int, what: String) throws(ImageFailure) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: count)
    let result = bytes.withUnsafeMutableBytes { buffer in
      Result { () throws(ImageFailure) in try read([buffer], at: offset) }
    }
    guard try result.get() == count else { throw ImageFailure(name, .truncated(what: what)) }
    return bytes
  }

  /// Writes `bytes`.
  func write(_ bytes: [UInt8], at offset: UInt64) throws(ImageFailure) {
    let result = bytes.withUnsafeBytes { buffer in
      Result { () throws(ImageFailure) in try write([buffer], at: offset) }
    }
    try result.get()
  }

  /// Writes zeroes byte by byte: what is left where the host has no better way.
  func writeZeroBytes(_ range: Range<UInt64>) throws(ImageFailure) {
    let zeroes = [UInt8](repeating: 0, count: Int(min(UInt64(range.count), 1 << 20)))
    var offset = range.lowerBound
    while offset < range.upperBound {
      let count = Int(min(range.upperBound - offset, UInt64(zeroes.count)))
      try write(count == zeroes.count ? zeroes : Array(zeroes[..<count]), at: offset)
      offset += UInt64(count)
    }
  }
}
