/// Accesses to chips that have an 8-bit data path: the bus splits a wider access into byte cycles at ascending offsets
/// (as an ISA bridge does).
enum ByteCycles {
  /// Reads `size` bytes, lowest offset first.
  static func read(offset: UInt64, size: Int, _ byte: (UInt64) -> UInt8) -> UInt64 {
    var value: UInt64 = 0
    for index in 0..<UInt64(clamping: min(size, 8)) {
      value |= UInt64(byte(offset &+ index)) << (8 * index)
    }
    return value
  }

  /// Writes `size` bytes, lowest offset first.
  static func write(offset: UInt64, size: Int, value: UInt64, _ byte: (UInt64, UInt8) -> Void) {
    for index in 0..<UInt64(clamping: min(size, 8)) {
      byte(offset &+ index, UInt8(truncatingIfNeeded: value >> (8 * index)))
    }
  }
}
