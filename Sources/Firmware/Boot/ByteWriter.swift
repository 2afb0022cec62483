/// Builds the structures that firmware hands to a guest: little-endian fields, appended or put in place.
struct ByteWriter {
  private(set) var bytes: [UInt8]

  init(count: Int = 0) { bytes = [UInt8](repeating: 0, count: count) }

  init(_ bytes: [UInt8]) { self.bytes = bytes }

  mutating func append<T: FixedWidthInteger & UnsignedInteger>(_ value: T) {
    withUnsafeBytes(of: value.littleEndian) { bytes += $0 }
  }

  mutating func append(_ more: [UInt8]) { bytes += more }

  /// ASCII text, padded with zeros to `count` bytes.
  mutating func append(_ text: String, count: Int) {
    let text = Array(text.utf8.prefix(count))
    bytes += text + [UInt8](repeating: 0, count: count - text.count)
  }

  /// Overwrites a field; it must lie inside.
  mutating func put<T: FixedWidthInteger & UnsignedInteger>(_ value: T, at offset: Int) {
    let count = T.bitWidth / 8
    precondition(offset >= 0 && offset + count <= bytes.count, "a field outside of the structure")
    withUnsafeBytes(of: value.littleEndian) { bytes.replaceSubrange(offset..<offset + count, with: $0) }
  }

  /// Puts, into a byte that is zero, the number that makes the sum of a range's bytes zero; nil: of all.
  mutating func putChecksum(at offset: Int, over range: Range<Int>? = nil) {
    put(0 &- bytes[range ?? bytes.indices].reduce(0, &+), at: offset)
  }

  mutating func pad(toMultipleOf alignment: Int) {
    let excess = bytes.count % alignment
    if excess != 0 { bytes += [UInt8](repeating: 0, count: alignment - excess) }
  }
}
