import Glibc

/// A piece of memory that a request reads into or writes from.
protocol IOBuffer {
  var count: Int { get }
  /// A part of it; `range` is within its bounds.
  func part(_ range: Range<Int>) -> Self
  /// For the kernel, which writes to the memory only where `self` may be written.
  var vector: iovec { get }
}

extension UnsafeMutableRawBufferPointer: IOBuffer {
  func part(_ range: Range<Int>) -> Self { Self(rebasing: self[range]) }
  var vector: iovec { iovec(iov_base: baseAddress, iov_len: count) }

  /// Fills it with zeroes.
  func clear() {
    if let baseAddress { memset(baseAddress, 0, count) }
  }
}

extension UnsafeRawBufferPointer: IOBuffer {
  func part(_ range: Range<Int>) -> Self { Self(rebasing: self[range]) }
  var vector: iovec { iovec(iov_base: UnsafeMutableRawPointer(mutating: baseAddress), iov_len: count) }
}

extension Array where Element: IOBuffer {
  /// Bytes in all buffers together.
  var byteCount: Int { reduce(0) { $0 + $1.count } }

  /// The bytes of `range`, counted through all buffers; `range` is within `byteCount`.
  func part(_ range: Range<Int>) -> Self {
    if range.lowerBound == 0, range.upperBound == byteCount { return self }
    var parts: Self = []
    var start = 0
    for buffer in self where start < range.upperBound {
      let end = start + buffer.count
      let wanted = range.clamped(to: start..<end)
      if !wanted.isEmpty { parts.append(buffer.part(wanted.lowerBound - start..<wanted.upperBound - start)) }
      start = end
    }
    return parts
  }
}

extension Array where Element == UnsafeMutableRawBufferPointer {
  func clear() {
    for buffer in self { buffer.clear() }
  }

  /// Copies `source`, which has at most `byteCount` bytes, to the beginning.
  func copy(from source: UnsafeRawBufferPointer) {
    var done = 0
    for buffer in self where done < source.count {
      let count = Swift.min(buffer.count, source.count - done)
      buffer.copyMemory(from: source.part(done..<done + count))
      done += count
    }
  }
}

extension Array where Element == UnsafeRawBufferPointer {
  /// Copies all bytes to `target`, which has room for them.
  func copy(to target: UnsafeMutableRawBufferPointer) {
    var done = 0
    for buffer in self {
      target.part(done..<done + buffer.count).copyMemory(from: buffer)
      done += buffer.count
    }
  }
}
