import Storage
import TestSupport
import Testing

/// What a disk ought to contain: its bytes in memory, changed as the disk is.
struct FlatDisk {
  var bytes: [UInt8]
  /// Discarded bytes may be what they were or zero, until they are written.
  var isLoose: [Bool]

  init(size: Int) {
    bytes = [UInt8](repeating: 0, count: size)
    isLoose = [Bool](repeating: false, count: size)
  }

  mutating func write(_ data: [UInt8], at offset: Int) {
    bytes.replaceSubrange(offset..<offset + data.count, with: data)
    setLoose(offset..<offset + data.count, false)
  }

  mutating func zero(_ range: Range<Int>) { write([UInt8](repeating: 0, count: range.count), at: range.lowerBound) }

  mutating func discard(_ range: Range<Int>) { setLoose(range, true) }

  private mutating func setLoose(_ range: Range<Int>, _ value: Bool) {
    for index in range { isLoose[index] = value }
  }

  mutating func resize(to size: Int) {
    if size < bytes.count {
      bytes.removeLast(bytes.count - size)
      isLoose.removeLast(isLoose.count - size)
    } else {
      let more = size - bytes.count
      bytes += [UInt8](repeating: 0, count: more)
      isLoose += [Bool](repeating: false, count: more)
    }
  }

  /// The first byte where `other` is not what it ought to be.
  func difference(from other: [UInt8]) -> Int? {
    guard other.count == bytes.count else { return min(other.count, bytes.count) }
    if other == bytes { return nil }
    return bytes.indices.first { other[$0] != bytes[$0] && !(isLoose[$0] && other[$0] == 0) }
  }
}

extension DiskImage {
  /// All of the disk.
  func contents() throws -> [UInt8] { try bytes(at: 0, count: Int(size)) }

  func bytes(at offset: UInt64, count: Int) throws -> [UInt8] {
    var bytes = [UInt8](repeating: 0xa5, count: count)
    try bytes.withUnsafeMutableBytes { try read([$0], at: offset) }
    return bytes
  }

  /// Writes `data` in one piece.
  func write(_ data: [UInt8], at offset: Int) throws {
    try data.withUnsafeBytes { try write([$0], at: UInt64(offset)) }
  }
}

extension SeededRandom {
  mutating func below(_ limit: Int) -> Int { Int(next() % UInt64(limit)) }

  /// Bytes that compress sometimes.
  mutating func data(_ count: Int) -> [UInt8] {
    let byte = UInt8(truncatingIfNeeded: next()) | 1
    if next() & 3 == 0 { return [UInt8](repeating: byte, count: count) }
    var bytes = [UInt8](repeating: 0, count: count)
    var word = next()
    for index in bytes.indices {
      if index & 7 == 0 { word = next() }
      bytes[index] = UInt8(truncatingIfNeeded: word >> UInt64(index & 7 * 8))
    }
    return bytes
  }
}

extension [UInt8] {
  /// A number that stands in an image, the highest byte first.
  func bigEndian(at offset: Int) -> UInt64 { self[offset..<offset + 8].reduce(0) { $0 << 8 | UInt64($1) } }

  mutating func setBigEndian<Number: FixedWidthInteger>(_ value: Number, at offset: Int) {
    Swift.withUnsafeBytes(of: value.bigEndian) { replaceSubrange(offset..<offset + $0.count, with: $0) }
  }
}
