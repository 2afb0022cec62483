/// A set of interrupt vectors: one of the local APIC's 256-bit registers (IRR, ISR, TMR).
struct VectorSet: Codable, Equatable {
  private var words = SIMD4<UInt64>()

  init() {}

  func contains(_ vector: UInt8) -> Bool {
    words[Int(vector >> 6)] & (1 << UInt64(vector & 63)) != 0
  }

  mutating func insert(_ vector: UInt8) {
    words[Int(vector >> 6)] |= 1 << UInt64(vector & 63)
  }

  mutating func remove(_ vector: UInt8) {
    words[Int(vector >> 6)] &= ~(1 << UInt64(vector & 63))
  }

  /// The vector of highest priority: the largest number.
  var highest: UInt8? {
    if words[3] != 0 { return 255 - UInt8(truncatingIfNeeded: words[3].leadingZeroBitCount) }
    if words[2] != 0 { return 191 - UInt8(truncatingIfNeeded: words[2].leadingZeroBitCount) }
    if words[1] != 0 { return 127 - UInt8(truncatingIfNeeded: words[1].leadingZeroBitCount) }
    if words[0] != 0 { return 63 - UInt8(truncatingIfNeeded: words[0].leadingZeroBitCount) }
    return nil
  }

  /// The set as eight 32-bit registers; `index` is 0 to 7.
  func register(_ index: Int) -> UInt32 {
    UInt32(truncatingIfNeeded: words[(index >> 1) & 3] >> UInt64((index & 1) * 32))
  }
}
