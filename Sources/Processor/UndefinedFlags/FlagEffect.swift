import X86

/// What one execution of an instruction does to the arithmetic flags, as far as it is defined, and what undefined flags
/// have been seen to be (SDM vol. 1, appendix A; the words are those that processors of several makers are known to give).
struct FlagEffect {
  /// All flags that the instruction may change.
  var changed: UInt64
  /// Those of `changed` that are undefined.
  var undefined: UInt64
  /// Two candidates for what flags become. Defined flags are the first's.
  var first: UInt64
  var second: UInt64

  @inline(__always)
  private static func both(_ carry: Bool, _ overflow: Bool) -> UInt64 {
    (carry ? RFLAGS.cf : 0) | (overflow ? RFLAGS.of : 0)
  }

  /// SHL, SHR and SAR by a count that is not zero. First: OF as for the last of so many shifts by one. Second: OF as for
  /// the first of them; CF as for the count modulo the width.
  @inline(__always)
  static func shift<O: ShiftOperation, T: Lane>(_: O.Type, _ x: T, _ count: Int, _ outcome: ShiftOutcome<T>) -> Self {
    let word = ArithmeticFlags.result(outcome.value)
    let inner = count <= T.bitWidth ? outcome.carry : O.compute(x, (count - 1) % T.bitWidth + 1, false).carry
    return FlagEffect(
      changed: RFLAGS.arithmetic,
      undefined: RFLAGS.af | (count == 1 ? 0 : RFLAGS.of)
        | (count < T.bitWidth || O.isArithmetic ? 0 : RFLAGS.cf),
      first: word | both(outcome.carry, outcome.overflow), second: word | both(inner, O.compute(x, 1, false).overflow))
  }

  /// Rotates by a count that is not zero. First and second as for shifts.
  @inline(__always)
  static func rotate<O: ShiftOperation, T: Lane>(
    _: O.Type, _ x: T, _ count: Int, _ carry: Bool, _ outcome: ShiftOutcome<T>
  ) -> Self {
    FlagEffect(
      changed: RFLAGS.cf | RFLAGS.of, undefined: count == 1 ? 0 : RFLAGS.of,
      first: both(outcome.carry, outcome.overflow),
      second: both(outcome.carry, O.compute(x, 1, carry).overflow))
  }

  /// SHLD and SHRD by a count that is not zero and less than the width. `once` is what OF is for a count of one.
  @inline(__always)
  static func doubleShift<T: Word>(_ result: T, _ count: Int, carry: Bool, overflow: Bool, once: Bool) -> Self {
    FlagEffect(
      changed: RFLAGS.arithmetic, undefined: RFLAGS.af | (count == 1 ? 0 : RFLAGS.of),
      first: ArithmeticFlags.result(result) | both(carry, overflow),
      second: ArithmeticFlags.result(result) | both(carry, once))
  }

  /// MUL and IMUL. First: SF, ZF and PF of the lower half. Second: of the upper.
  @inline(__always)
  static func product<T: FixedWidthInteger>(low: T, high: T, overflows: Bool) -> Self {
    let overflow = both(overflows, overflows)
    return FlagEffect(
      changed: RFLAGS.arithmetic, undefined: FlagFamily.mul.undefined,
      first: ArithmeticFlags.result(low) | overflow, second: ArithmeticFlags.result(high) | overflow)
  }

  /// DIV and IDIV. First: SF, ZF and PF of the quotient. Second: of the remainder.
  @inline(__always)
  static func quotient<T: FixedWidthInteger>(_ quotient: T, remainder: T) -> Self {
    FlagEffect(
      changed: RFLAGS.arithmetic, undefined: RFLAGS.arithmetic, first: ArithmeticFlags.result(quotient),
      second: ArithmeticFlags.result(remainder))
  }

  /// BSF and BSR: `index` is 0 where the source is zero. First: SF and PF of the index. Second: of the source.
  @inline(__always)
  static func scan<T: Word>(_ index: T, source: T) -> Self {
    let zero: UInt64 = source == 0 ? RFLAGS.zf : 0
    return FlagEffect(
      changed: RFLAGS.arithmetic, undefined: FlagFamily.bsf.undefined,
      first: ArithmeticFlags.result(index) & ~RFLAGS.zf | zero,
      second: ArithmeticFlags.result(source))
  }

  /// TZCNT and LZCNT. First: SF and PF of the count. Second: of the source.
  @inline(__always)
  static func count<T: Word>(_ count: T, source: T) -> Self {
    let carry: UInt64 = source == 0 ? RFLAGS.cf : 0
    return FlagEffect(
      changed: RFLAGS.arithmetic, undefined: FlagFamily.tzcnt.undefined, first: ArithmeticFlags.result(count) | carry,
      second: ArithmeticFlags.result(source) | carry)
  }

  /// BT, BTS, BTR and BTC of a word. First: OF, SF and PF as if the word were rotated right until the bit is the lowest.
  /// Second: SF and PF of the word.
  @inline(__always)
  static func bitTest<T: Word>(_ word: T, bit: T) -> Self {
    let width = T(truncatingIfNeeded: T.bitWidth)
    let turned = word &>> bit | word &<< (width &- bit)
    let carry: UInt64 = turned & 1 != 0 ? RFLAGS.cf : 0
    let overflow: UInt64 = (turned ^ turned << 1).leadingZeroBitCount == 0 ? RFLAGS.of : 0
    return FlagEffect(
      changed: RFLAGS.arithmetic & ~RFLAGS.zf, undefined: FlagFamily.bitTest.undefined,
      first: ArithmeticFlags.result(turned) | overflow | carry, second: ArithmeticFlags.result(word) | carry)
  }

  /// BEXTR, BLSI, BLSMSK, BLSR, BZHI, ANDN and the logical instructions. First: SF and PF of the result. Second: of the
  /// source.
  @inline(__always)
  static func bits<T: Word>(_ family: FlagFamily, _ result: T, source: T, carry: Bool) -> Self {
    FlagEffect(
      changed: RFLAGS.arithmetic, undefined: family.undefined,
      first: ArithmeticFlags.result(result) | (carry ? RFLAGS.cf : 0),
      second: ArithmeticFlags.result(source) | (carry ? RFLAGS.cf : 0))
  }
}

extension SoftwareProcessor {
  /// Sets the arithmetic flags as an instruction of the family does.
  @inline(__always)
  func setFlags(_ family: FlagFamily, _ effect: FlagEffect) {
    cpu.pointee.rflags = flagRules[family].flags(after: effect, cpu.pointee.rflags)
  }
}
