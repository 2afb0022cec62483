// Numbers in files that store the highest byte first, at any alignment. Offsets are within bounds: the callers' tables
// have fixed sizes.

extension UnsafeRawBufferPointer {
  func bigEndian<Number: FixedWidthInteger>(at offset: Int, as: Number.Type = Number.self) -> Number {
    Number(bigEndian: loadUnaligned(fromByteOffset: offset, as: Number.self))
  }
}

extension UnsafeMutableRawBufferPointer {
  func bigEndian<Number: FixedWidthInteger>(at offset: Int, as: Number.Type = Number.self) -> Number {
    UnsafeRawBufferPointer(self).bigEndian(at: offset)
  }

  func storeBigEndian(_ number: some FixedWidthInteger, at offset: Int) {
    storeBytes(of: number.bigEndian, toByteOffset: offset, as: type(of: number))
  }
}

extension [UInt8] {
  func bigEndian<Number: FixedWidthInteger>(at offset: Int, as: Number.Type = Number.self) -> Number {
    withUnsafeBytes { $0.bigEndian(at: offset) }
  }

  mutating func storeBigEndian(_ number: some FixedWidthInteger, at offset: Int) {
    withUnsafeMutableBytes { $0.storeBigEndian(number, at: offset) }
  }

  /// A table of 64-bit numbers.
  init(bigEndian numbers: some Collection<UInt64>) {
    self.init(repeating: 0, count: numbers.count * 8)
    for (index, number) in numbers.enumerated() { storeBigEndian(number, at: index * 8) }
  }

  /// The table of 64-bit numbers that this is.
  var bigEndianNumbers: [UInt64] {
    withUnsafeBytes { bytes in (0..<bytes.count / 8).map { bytes.bigEndian(at: $0 * 8) } }
  }
}
