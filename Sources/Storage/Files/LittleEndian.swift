// Numbers in files that store the lowest byte first, at any alignment. Offsets are within bounds.

extension [UInt8] {
  func littleEndian<Number: FixedWidthInteger>(at offset: Int, as: Number.Type = Number.self) -> Number {
    withUnsafeBytes { Number(littleEndian: $0.loadUnaligned(fromByteOffset: offset, as: Number.self)) }
  }
}
