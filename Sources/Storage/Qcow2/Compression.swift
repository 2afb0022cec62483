import CZlib
import CZstd

/// How the compressed clusters of an image are compressed; raw values are the header's.
public enum Compression: UInt8, CaseIterable, Sendable {
  case zlib = 0
  case zstd = 1

  public var name: String { self == .zlib ? "zlib" : "zstd" }

  /// Fills `target`, a whole cluster, from what `source` begins with; behind its end there may be anything. False: the
  /// data are broken.
  func expand(_ source: UnsafeRawBufferPointer, into target: UnsafeMutableRawBufferPointer) -> Bool {
    switch self {
    // Raw deflate data with a window of 4 KiB, without zlib's frame: what the format has always used.
    case .zlib: Self.inflate(source, target, windowBits: Self.windowBits)
    case .zstd: Self.expandFrames(source, target)
    }
  }

  /// The compressed bytes; nil where they would not be fewer than those of `source`, a whole cluster.
  func compress(_ source: UnsafeRawBufferPointer) -> [UInt8]? {
    switch self {
    case .zlib: Self.deflate(source)
    case .zstd: Self.compressFrame(source)
    }
  }

  private static let windowBits: Int32 = -12

  /// Fills `target` from deflate data; negative window sizes are zlib's for data without its frame.
  static func inflate(
    _ source: UnsafeRawBufferPointer, _ target: UnsafeMutableRawBufferPointer, windowBits: Int32
  ) -> Bool {
    var stream = z_stream()
    stream.next_in = UnsafeMutablePointer(mutating: source.assumingMemoryBound(to: UInt8.self).baseAddress)
    stream.avail_in = UInt32(source.count)
    stream.next_out = target.assumingMemoryBound(to: UInt8.self).baseAddress
    stream.avail_out = UInt32(target.count)
    guard inflateInit2_(&stream, windowBits, ZLIB_VERSION, Int32(MemoryLayout<z_stream>.size)) == Z_OK else {
      return false
    }
    defer { inflateEnd(&stream) }
    let status = CZlib.inflate(&stream, Z_FINISH)
    return stream.avail_out == 0 && (status == Z_STREAM_END || status == Z_BUF_ERROR)
  }

  private static func deflate(_ source: UnsafeRawBufferPointer) -> [UInt8]? {
    var stream = z_stream()
    guard
      deflateInit2_(
        &stream, Z_DEFAULT_COMPRESSION, Z_DEFLATED, windowBits, 9, Z_DEFAULT_STRATEGY, ZLIB_VERSION,
        Int32(MemoryLayout<z_stream>.size)) == Z_OK
    else { return nil }
    defer { deflateEnd(&stream) }
    stream.next_in = UnsafeMutablePointer(mutating: source.assumingMemoryBound(to: UInt8.self).baseAddress)
    stream.avail_in = UInt32(source.count)
    var isDone = false
    let bytes = [UInt8](unsafeUninitializedCapacity: source.count - 1) { buffer, count in
      stream.next_out = buffer.baseAddress
      stream.avail_out = UInt32(source.count - 1)
      isDone = CZlib.deflate(&stream, Z_FINISH) == Z_STREAM_END
      count = source.count - 1 - Int(stream.avail_out)
    }
    return isDone ? bytes : nil
  }

  /// One or more zstd frames that make up a cluster.
  private static func expandFrames(_ source: UnsafeRawBufferPointer, _ target: UnsafeMutableRawBufferPointer) -> Bool {
    guard let context = ZSTD_createDCtx() else { return false }
    defer { ZSTD_freeDCtx(context) }
    var input = ZSTD_inBuffer(src: source.baseAddress, size: source.count, pos: 0)
    var output = ZSTD_outBuffer(dst: target.baseAddress, size: target.count, pos: 0)
    while output.pos < output.size {
      let before = (input.pos, output.pos)
      guard ZSTD_isError(ZSTD_decompressStream(context, &output, &input)) == 0 else { return false }
      // Input has ended before the cluster was full.
      if before == (input.pos, output.pos) { return false }
    }
    return true
  }

  private static func compressFrame(_ source: UnsafeRawBufferPointer) -> [UInt8]? {
    var size = 0
    let bytes = [UInt8](unsafeUninitializedCapacity: source.count - 1) { buffer, count in
      size = ZSTD_compress(buffer.baseAddress, source.count - 1, source.baseAddress, source.count, 3)
      count = ZSTD_isError(size) == 0 ? size : 0
    }
    return bytes.isEmpty ? nil : bytes
  }
}
