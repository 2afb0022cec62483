import CHost
import CZydis
import X86

/// Decimal adjustment: DAA, DAS, AAA, AAS, AAM and AAD (SDM vol. 2A). Not valid in 64-bit mode.
enum DecimalInstructions {
  static let rows: [InstructionRow] = [
    InstructionRow(ZYDIS_MNEMONIC_DAA, adjustAfterAddition),
    InstructionRow(ZYDIS_MNEMONIC_DAS, adjustAfterSubtraction),
    InstructionRow(ZYDIS_MNEMONIC_AAA, unpackAfterAddition),
    InstructionRow(ZYDIS_MNEMONIC_AAS, unpackAfterSubtraction),
    InstructionRow(ZYDIS_MNEMONIC_AAM, unpackAfterMultiplication),
    InstructionRow(ZYDIS_MNEMONIC_AAD, packBeforeDivision),
  ]

  private static let accumulator: UInt8 = 0
  private static let high: UInt8 = 1

  static func adjustAfterAddition(_ processor: SoftwareProcessor, _ op: Op) throws(GuestFault) -> Flow {
    let old = processor.register(accumulator, as: UInt8.self)
    let (low, high) = adjustments(processor, old)
    let adjustment: UInt8 = (low ? 6 : 0) + (high ? 0x60 : 0)
    setDecimal(processor, old &+ adjustment, ArithmeticFlags.sum(old, adjustment), low, high)
    return .next
  }

  static func adjustAfterSubtraction(_ processor: SoftwareProcessor, _ op: Op) throws(GuestFault) -> Flow {
    let old = processor.register(accumulator, as: UInt8.self)
    let (low, high) = adjustments(processor, old)
    let adjustment: UInt8 = (low ? 6 : 0) + (high ? 0x60 : 0)
    // The borrow of the low digit's adjustment counts too.
    let carry = high || (low && old < 6)
    setDecimal(processor, old &- adjustment, ArithmeticFlags.difference(old, adjustment), low, carry)
    return .next
  }

  /// Which digits of AL are out of range.
  private static func adjustments(_ processor: SoftwareProcessor, _ value: UInt8) -> (low: Bool, high: Bool) {
    (value & 15 > 9 || processor.flag(RFLAGS.af), value > 0x99 || processor.flag(RFLAGS.cf))
  }

  /// OF, undefined, is that of the addition or subtraction, of which `flags` are.
  private static func setDecimal(
    _ processor: SoftwareProcessor, _ value: UInt8, _ flags: UInt64, _ adjust: Bool, _ carry: Bool
  ) {
    processor.setRegister(accumulator, value)
    processor.setFlags(
      RFLAGS.arithmetic,
      flags & ~(RFLAGS.af | RFLAGS.cf) | (adjust ? RFLAGS.af : 0) | (carry ? RFLAGS.cf : 0))
  }

  static func unpackAfterAddition(_ processor: SoftwareProcessor, _ op: Op) throws(GuestFault) -> Flow {
    let old = processor.register(accumulator, as: UInt16.self)
    let adjusts = old & 15 > 9 || processor.flag(RFLAGS.af)
    let flags = ArithmeticFlags.sum(old, adjusts ? 0x106 : 0)
    setUnpacked(processor, adjusts ? old &+ 0x106 : old, flags, adjusts)
    return .next
  }

  static func unpackAfterSubtraction(_ processor: SoftwareProcessor, _ op: Op) throws(GuestFault) -> Flow {
    let old = processor.register(accumulator, as: UInt16.self)
    let adjusts = old & 15 > 9 || processor.flag(RFLAGS.af)
    let flags = ArithmeticFlags.difference(old, adjusts ? 0x106 : 0)
    setUnpacked(processor, adjusts ? old &- 0x106 : old, flags, adjusts)
    return .next
  }

  /// OF, SF, ZF and PF, undefined, are those of AX's adjustment before AL's upper digit is cleared.
  private static func setUnpacked(
    _ processor: SoftwareProcessor, _ value: UInt16, _ flags: UInt64, _ adjusted: Bool
  ) {
    processor.setRegister(accumulator, value & 0xff0f)
    processor.setFlags(
      RFLAGS.arithmetic,
      flags & ~(RFLAGS.af | RFLAGS.cf) | (adjusted ? RFLAGS.af | RFLAGS.cf : 0))
  }

  static func unpackAfterMultiplication(_ processor: SoftwareProcessor, _ op: Op) throws(GuestFault) -> Flow {
    let base = UInt8(truncatingIfNeeded: op.pointee.immediate)
    guard base != 0 else { throw .divideError }
    let (quotient, remainder) = processor.register(accumulator, as: UInt8.self).quotientAndRemainder(dividingBy: base)
    processor.setRegister(high, quotient)
    processor.setRegister(accumulator, remainder)
    processor.setFlags(RFLAGS.arithmetic, ArithmeticFlags.result(remainder))
    return .next
  }

  static func packBeforeDivision(_ processor: SoftwareProcessor, _ op: Op) throws(GuestFault) -> Flow {
    let base = UInt8(truncatingIfNeeded: op.pointee.immediate)
    let low = processor.register(accumulator, as: UInt8.self)
    let tens = processor.register(high, as: UInt8.self) &* base
    processor.setRegister(accumulator, UInt16(low &+ tens))
    // AF, CF and OF, undefined, are those of the sum.
    processor.setFlags(RFLAGS.arithmetic, ArithmeticFlags.sum(low, tens))
    return .next
  }
}
