/// A small generator of random numbers whose whole sequence its seed determines (SplitMix64).
struct RandomSource: RandomNumberGenerator {
  private var state: UInt64

  init(seed: UInt64) { state = seed }

  mutating func next() -> UInt64 {
    state &+= 0x9e37_79b9_7f4a_7c15
    var value = state
    value = (value ^ value >> 30) &* 0xbf58_476d_1ce4_e5b9
    value = (value ^ value >> 27) &* 0x94d0_49bb_1331_11eb
    return value ^ value >> 31
  }

  /// A number less than `limit`, which is not zero.
  mutating func below(_ limit: Int) -> Int {
    Int(truncatingIfNeeded: next().multipliedFullWidth(by: UInt64(limit)).high)
  }

  /// True once in `count` times.
  mutating func oneIn(_ count: Int) -> Bool { below(count) == 0 }

  mutating func pick<T>(_ values: [T]) -> T { values[below(values.count)] }

  /// An integer operand: a value at some boundary, near a power of two, small, or anything.
  mutating func operand() -> UInt64 {
    switch below(8) {
    case 0, 1: return pick(Self.boundaries)
    case 2:
      let power = (1 as UInt64) << UInt64(below(64))
      return [power, power &- 1, power &+ 1, 0 &- power, ~power][below(5)]
    case 3: return UInt64(below(72))
    case 4: return next() >> UInt64(below(64))
    default: return next()
    }
  }

  private static let boundaries: [UInt64] = [
    0, 1, 2, 0x7f, 0x80, 0xff, 0x7fff, 0x8000, 0xffff, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, 0x7fff_ffff_ffff_ffff,
    0x8000_0000_0000_0000, ~0, ~0 - 1, 0xffff_ffff_ffff_ff80, 0xffff_ffff_ffff_8000, 0xffff_ffff_8000_0000,
  ]

  // MARK: Floating point

  mutating func single() -> UInt32 {
    if oneIn(2) { return UInt32(truncatingIfNeeded: next()) }
    return pick(Self.singles) ^ (oneIn(2) ? 0x8000_0000 : 0)
  }

  mutating func double() -> UInt64 {
    if oneIn(2) { return next() }
    return pick(Self.doubles) ^ (oneIn(2) ? 1 << 63 : 0)
  }

  /// Mantissa, and sign with exponent.
  mutating func extended() -> (UInt64, UInt16) {
    let sign: UInt16 = oneIn(2) ? 0x8000 : 0
    switch below(8) {
    case 0: return (next(), UInt16(truncatingIfNeeded: next()))
    case 1: return (0, sign | pick([0, 0x3fff, 0x7fff]))
    case 2: return (1 << 63, sign | pick([0, 1, 0x3fff, 0x4000, 0x7ffe, 0x7fff]))
    case 3: return (next() | 1 << 63, sign | 0x7fff)
    case 4: return (next() >> UInt64(below(64)), sign)
    case 5:
      // An integer.
      let value = UInt64(below(1 << 20)) + 1
      let shift = value.leadingZeroBitCount
      return (value << UInt64(shift), sign | UInt16(0x3fff + 63 - shift))
    default: return (next() | 1 << 63, sign | UInt16(0x3fff - 70 + below(140)))
    }
  }

  private static let singles: [UInt32] = [
    0, 1, 0x7f_ffff, 0x80_0000, 0x3f80_0000, 0x3f80_0001, 0x4000_0000, 0x3f00_0000, 0x4b00_0000, 0x4f00_0000,
    0x5f00_0000, 0x7f7f_ffff, 0x7f80_0000, 0x7f80_0001, 0x7fc0_0000, 0x7fff_ffff, 0x4049_0fdb, 0x42c8_0000,
  ]

  private static let doubles: [UInt64] = [
    0, 1, 0xf_ffff_ffff_ffff, 0x10_0000_0000_0000, 0x3ff0_0000_0000_0000, 0x3ff0_0000_0000_0001,
    0x4000_0000_0000_0000, 0x3fe0_0000_0000_0000, 0x41e0_0000_0000_0000, 0x43e0_0000_0000_0000,
    0x4330_0000_0000_0000, 0x7fef_ffff_ffff_ffff, 0x7ff0_0000_0000_0000, 0x7ff0_0000_0000_0001,
    0x7ff8_0000_0000_0000, 0x7fff_ffff_ffff_ffff, 0x36a0_0000_0000_0000, 0x47ef_ffff_ffff_ffff,
  ]
}
