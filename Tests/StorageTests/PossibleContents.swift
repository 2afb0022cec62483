/// What a disk may contain after a cut of the power: what was flushed, and over it any part of what came later.
struct PossibleContents {
  /// What was flushed.
  private(set) var flushed: [UInt8]
  /// What was written, or is being written, since.
  private var later: [(range: Range<Int>, bytes: [UInt8])] = []
  /// Something that happens as a whole or not at all is under way, and makes this of the disk.
  private var alternative: [UInt8]?

  init(_ flushed: [UInt8]) { self.flushed = flushed }

  mutating func write(_ bytes: [UInt8], at offset: Int) { later.append((offset..<offset + bytes.count, bytes)) }

  mutating func zero(_ range: Range<Int>) { write([UInt8](repeating: 0, count: range.count), at: range.lowerBound) }

  /// Begins something whole that ends with `bytes`. All has been flushed.
  mutating func begin(_ bytes: [UInt8]) { alternative = bytes }

  /// The disk is on stable storage, and contains `bytes`.
  mutating func flush(_ bytes: [UInt8]) { self = Self(bytes) }

  /// The first byte of `bytes` that cannot be; nil: there is none.
  func difference(from bytes: [UInt8]) -> Int? {
    if bytes == flushed || bytes == alternative { return nil }
    guard alternative == nil, bytes.count == flushed.count else { return 0 }
    return bytes.indices.first { index in
      bytes[index] != flushed[index]
        && !later.contains { $0.range.contains(index) && $0.bytes[index - $0.range.lowerBound] == bytes[index] }
    }
  }
}
