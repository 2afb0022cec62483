import CHost
import CZydis
import X86

/// MUL, IMUL with one operand, DIV and IDIV.
///
/// What the manual leaves undefined of the flags is the host's (`FlagRules`).
enum MultiplyDivide {
  static let rows: [InstructionRow] = [
    InstructionRow(ZYDIS_MNEMONIC_MUL, multiply),
    InstructionRow(ZYDIS_MNEMONIC_DIV, divide),
    InstructionRow(ZYDIS_MNEMONIC_IDIV, divideSigned),
  ]

  static func multiply(_ processor: SoftwareProcessor, _ op: Op) throws(GuestFault) -> Flow {
    switch op.pointee.size {
    case 1: try multiply(processor, op, UInt8.self)
    case 2: try multiply(processor, op, UInt16.self)
    case 4: try multiply(processor, op, UInt32.self)
    default: try multiply(processor, op, UInt64.self)
    }
  }

  private static func multiply<T: Word>(
    _ processor: SoftwareProcessor, _ op: Op, _ type: T.Type
  ) throws(GuestFault) -> Flow {
    let factor = try processor.firstOperand(op, as: T.self)
    let (high, low) = factor.multipliedFullWidth(by: processor.register(0, as: T.self))
    setPair(processor, high: high, low: T(truncatingIfNeeded: low))
    processor.setFlags(.mul, .product(low: T(truncatingIfNeeded: low), high: high, overflows: high != 0))
    return .next
  }

  static func multiplySigned(_ processor: SoftwareProcessor, _ op: Op) throws(GuestFault) -> Flow {
    switch op.pointee.size {
    case 1: try multiplySigned(processor, op, UInt8.self, Int8.self)
    case 2: try multiplySigned(processor, op, UInt16.self, Int16.self)
    case 4: try multiplySigned(processor, op, UInt32.self, Int32.self)
    default: try multiplySigned(processor, op, UInt64.self, Int64.self)
    }
  }

  private static func multiplySigned<T: Word, S: FixedWidthInteger & SignedInteger>(
    _ processor: SoftwareProcessor, _ op: Op, _ type: T.Type, _ signed: S.Type
  ) throws(GuestFault) -> Flow {
    let factor = S(truncatingIfNeeded: try processor.firstOperand(op, as: T.self))
    let (high, magnitude) = factor.multipliedFullWidth(by: S(truncatingIfNeeded: processor.register(0, as: T.self)))
    let low = T(truncatingIfNeeded: magnitude)
    setPair(processor, high: T(truncatingIfNeeded: high), low: low)
    let fits = high == S(truncatingIfNeeded: low) &>> S(truncatingIfNeeded: S.bitWidth - 1)
    processor.setFlags(.imul, .product(low: low, high: T(truncatingIfNeeded: high), overflows: !fits))
    return .next
  }

  static func divide(_ processor: SoftwareProcessor, _ op: Op) throws(GuestFault) -> Flow {
    switch op.pointee.size {
    case 1: try divide(processor, op, UInt8.self)
    case 2: try divide(processor, op, UInt16.self)
    case 4: try divide(processor, op, UInt32.self)
    default: try divide(processor, op, UInt64.self)
    }
  }

  private static func divide<T: Word>(
    _ processor: SoftwareProcessor, _ op: Op, _ type: T.Type
  ) throws(GuestFault) -> Flow {
    let divisor = try processor.firstOperand(op, as: T.self)
    let (high, low) = pair(processor, as: T.self)
    // A quotient that does not fit, and a divisor of zero.
    guard high < divisor else { throw .divideError }
    let (quotient, remainder) = quotient(high, low, by: divisor)
    setDivision(processor, .div, quotient: quotient, remainder: remainder)
    return .next
  }

  static func divideSigned(_ processor: SoftwareProcessor, _ op: Op) throws(GuestFault) -> Flow {
    switch op.pointee.size {
    case 1: try divideSigned(processor, op, UInt8.self)
    case 2: try divideSigned(processor, op, UInt16.self)
    case 4: try divideSigned(processor, op, UInt32.self)
    default: try divideSigned(processor, op, UInt64.self)
    }
  }

  /// Divides magnitudes. The quotient is rounded towards zero and the remainder has the dividend's sign.
  private static func divideSigned<T: Word>(
    _ processor: SoftwareProcessor, _ op: Op, _ type: T.Type
  ) throws(GuestFault) -> Flow {
    let divisor = try processor.firstOperand(op, as: T.self)
    var (high, low) = pair(processor, as: T.self)
    let sign = (1 as T) &<< T(truncatingIfNeeded: T.bitWidth - 1)
    let isDividendNegative = high & sign != 0
    let isQuotientNegative = isDividendNegative != (divisor & sign != 0)
    if isDividendNegative {
      high = ~high &+ (low == 0 ? 1 : 0)
      low = 0 &- low
    }
    let magnitude = divisor & sign != 0 ? 0 &- divisor : divisor
    guard high < magnitude else { throw .divideError }
    let (quotient, remainder) = quotient(high, low, by: magnitude)
    guard isQuotientNegative ? quotient <= sign : quotient < sign else { throw .divideError }
    setDivision(
      processor, .idiv, quotient: isQuotientNegative ? 0 &- quotient : quotient,
      remainder: isDividendNegative ? 0 &- remainder : remainder)
    return .next
  }

  /// The quotient fits: `high` is less than `divisor`, which therefore is not zero.
  private static func quotient<T: Word>(_ high: T, _ low: T, by divisor: T) -> (quotient: T, remainder: T) {
    if high == 0 { return low.quotientAndRemainder(dividingBy: divisor) }
    return divisor.dividingFullWidth((high, T.Magnitude(truncatingIfNeeded: low)))
  }

  // MARK: The register pair: AH and AL, DX and AX, EDX and EAX, RDX and RAX

  private static func pair<T: Word>(_ processor: SoftwareProcessor, as type: T.Type) -> (high: T, low: T) {
    (processor.register(highRegister(T.self), as: T.self), processor.register(0, as: T.self))
  }

  private static func setPair<T: Word>(_ processor: SoftwareProcessor, high: T, low: T) {
    processor.setRegister(0, low)
    processor.setRegister(highRegister(T.self), high)
  }

  private static func highRegister<T: Word>(_: T.Type) -> UInt8 { T.bitWidth == 8 ? 1 : 16 }

  private static func setDivision<T: Word>(
    _ processor: SoftwareProcessor, _ family: FlagFamily, quotient: T, remainder: T
  ) {
    setPair(processor, high: remainder, low: quotient)
    processor.setFlags(family, .quotient(quotient, remainder: remainder))
  }
}
