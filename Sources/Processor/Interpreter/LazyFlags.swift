import X86

/// The arithmetic flags as chains carry them: not computed until somebody looks.
///
/// Four numbers travel as arguments from handler to handler: operands `a` and `b`, `result` and `kind`. All three values
/// are sign-extended to 64 bits from the operation's size, which keeps signed *and* unsigned order and puts every sign
/// bit at bit 63; so the size need not be known to read a flag, and one set of formulas serves all four.
enum LazyFlags {
  /// `result` holds RFLAGS itself (other bits are ignored).
  static let materialized: UInt64 = 0
  /// AND, OR, XOR, TEST: CF and OF clear, AF clear.
  static let logic: UInt64 = 1
  /// a + b, with or without a carry in.
  static let add: UInt64 = 2
  /// a - b.
  static let subtract: UInt64 = 3
  /// b + 1; `a` is the carry flag as it was, 0 or 1.
  static let increment: UInt64 = 4
  /// b - 1; `a` is the carry flag as it was, 0 or 1.
  static let decrement: UInt64 = 5
  /// a - b - 1 or a - b: a borrow may have come in.
  static let subtractWithBorrow: UInt64 = 6

  /// CF is `a`, OF bit 0 and AF bit 4 of `b`; the others follow from `result`.
  static let separate: UInt64 = 7

  /// Changes CF and OF alone: what goes on as `a`, `b`, `result` and `kind`.
  @inline(__always)
  static func replacing(
    carry: UInt64, overflow: UInt64, _ a: UInt64, _ b: UInt64, _ result: UInt64, _ kind: UInt64
  ) -> (a: UInt64, b: UInt64, result: UInt64, kind: UInt64) {
    if kind == materialized {
      return (a, b, result & ~(RFLAGS.cf | RFLAGS.of) | carry | overflow << 11, kind)
    }
    return (carry, overflow | (adjust(a, b, result, kind) ? 0x10 : 0), result, separate)
  }

  /// OF SF ZF AF PF CF at their places in RFLAGS.
  @inline(never)
  static func materialize(_ a: UInt64, _ b: UInt64, _ result: UInt64, _ kind: UInt64) -> UInt64 {
    guard kind != materialized else { return result & RFLAGS.arithmetic }
    var flags: UInt64 = carry(a, b, result, kind) ? RFLAGS.cf : 0
    if parity(a, b, result, kind) { flags |= RFLAGS.pf }
    if adjust(a, b, result, kind) { flags |= RFLAGS.af }
    if zero(a, b, result, kind) { flags |= RFLAGS.zf }
    if sign(a, b, result, kind) { flags |= RFLAGS.sf }
    if overflow(a, b, result, kind) { flags |= RFLAGS.of }
    return flags
  }

  @inline(__always)
  static func carry(_ a: UInt64, _ b: UInt64, _ result: UInt64, _ kind: UInt64) -> Bool {
    switch kind {
    case subtract: a < b
    case materialized: result & RFLAGS.cf != 0
    case logic: false
    case add: ((a & b) | ((a | b) & ~result)) >> 63 != 0
    case subtractWithBorrow: ((~a & b) | ((~a | b) & result)) >> 63 != 0
    default: a != 0
    }
  }

  @inline(__always)
  static func zero(_ a: UInt64, _ b: UInt64, _ result: UInt64, _ kind: UInt64) -> Bool {
    kind == materialized ? result & RFLAGS.zf != 0 : result == 0
  }

  @inline(__always)
  static func sign(_ a: UInt64, _ b: UInt64, _ result: UInt64, _ kind: UInt64) -> Bool {
    kind == materialized ? result & RFLAGS.sf != 0 : Int64(bitPattern: result) < 0
  }

  @inline(__always)
  static func parity(_ a: UInt64, _ b: UInt64, _ result: UInt64, _ kind: UInt64) -> Bool {
    kind == materialized ? result & RFLAGS.pf != 0 : (result & 0xff).nonzeroBitCount & 1 == 0
  }

  @inline(__always)
  static func adjust(_ a: UInt64, _ b: UInt64, _ result: UInt64, _ kind: UInt64) -> Bool {
    switch kind {
    case materialized: result & RFLAGS.af != 0
    case logic: false
    case increment, decrement: (b ^ result) & 0x10 != 0
    case separate: b & 0x10 != 0
    default: (a ^ b ^ result) & 0x10 != 0
    }
  }

  @inline(__always)
  static func overflow(_ a: UInt64, _ b: UInt64, _ result: UInt64, _ kind: UInt64) -> Bool {
    switch kind {
    case subtract, subtractWithBorrow: ((a ^ b) & (a ^ result)) >> 63 != 0
    case materialized: result & RFLAGS.of != 0
    case logic: false
    case add: ((a ^ result) & (b ^ result)) >> 63 != 0
    case increment: (~b & result) >> 63 != 0
    case separate: b & 1 != 0
    default: (b & ~result) >> 63 != 0
    }
  }

  /// Signed less: SF differs from OF.
  @inline(__always)
  static func less(_ a: UInt64, _ b: UInt64, _ result: UInt64, _ kind: UInt64) -> Bool {
    switch kind {
    case subtract: Int64(bitPattern: a) < Int64(bitPattern: b)
    case logic: Int64(bitPattern: result) < 0
    default: sign(a, b, result, kind) != overflow(a, b, result, kind)
    }
  }

  @inline(__always)
  static func lessOrEqual(_ a: UInt64, _ b: UInt64, _ result: UInt64, _ kind: UInt64) -> Bool {
    switch kind {
    case subtract: Int64(bitPattern: a) <= Int64(bitPattern: b)
    case logic: Int64(bitPattern: result) <= 0
    default:
      zero(a, b, result, kind) || sign(a, b, result, kind) != overflow(a, b, result, kind)
    }
  }

  @inline(__always)
  static func belowOrEqual(_ a: UInt64, _ b: UInt64, _ result: UInt64, _ kind: UInt64) -> Bool {
    kind == subtract ? a <= b : carry(a, b, result, kind) || zero(a, b, result, kind)
  }

  /// A condition code, 0 to 15, as Jcc, SETcc and CMOVcc encode it.
  @inline(__always)
  static func condition(_ code: UInt16, _ a: UInt64, _ b: UInt64, _ result: UInt64, _ kind: UInt64) -> Bool {
    let holds =
      switch code >> 1 {
      case 0: overflow(a, b, result, kind)
      case 1: carry(a, b, result, kind)
      case 2: zero(a, b, result, kind)
      case 3: belowOrEqual(a, b, result, kind)
      case 4: sign(a, b, result, kind)
      case 5: parity(a, b, result, kind)
      case 6: less(a, b, result, kind)
      default: lessOrEqual(a, b, result, kind)
      }
    return holds != (code & 1 != 0)
  }
}
