extension Array where Element == UInt8 {
  /// A number of `size` bytes, 8 at most; bytes beyond the end are zero.
  func littleEndian(at offset: Int, size: Int) -> UInt64 {
    var value: UInt64 = 0
    for index in 0..<Swift.min(size, 8) where indices.contains(offset &+ index) {
      value |= UInt64(self[offset + index]) << (8 * UInt64(index))
    }
    return value
  }

  /// Puts a number in, little-endian; the array has room for it.
  mutating func put<T: FixedWidthInteger & UnsignedInteger>(_ value: T, at offset: Int) {
    for index in 0..<T.bitWidth / 8 { self[offset + index] = UInt8(truncatingIfNeeded: value >> T(8 * index)) }
  }
}
