import CHost
import CZydis
import X86

/// SHLD and SHRD.
///
/// AF is set. OF is as for a shift by one, whatever the count: whether the last step changed the sign (SHLD by 16:
/// CF). A 16-bit operand shifted by more than 16 is undefined; as on Zen 5 the source follows twice, and CF (and SHLD's
/// OF) are cleared.
enum DoubleShifts {
  static let rows: [InstructionRow] = [
    InstructionRow(ZYDIS_MNEMONIC_SHLD, shiftLeft),
    InstructionRow(ZYDIS_MNEMONIC_SHRD, shiftRight),
  ]

  static func shiftLeft(_ processor: SoftwareProcessor, _ op: Op) throws(GuestFault) -> Flow {
    switch op.pointee.size {
    case 2: try execute(processor, op, UInt16.self, left)
    case 4: try execute(processor, op, UInt32.self, left)
    default: try execute(processor, op, UInt64.self, left)
    }
  }

  static func shiftRight(_ processor: SoftwareProcessor, _ op: Op) throws(GuestFault) -> Flow {
    switch op.pointee.size {
    case 2: try execute(processor, op, UInt16.self, right)
    case 4: try execute(processor, op, UInt32.self, right)
    default: try execute(processor, op, UInt64.self, right)
    }
  }

  private typealias Shift<T> = (_ value: T, _ source: T, _ count: Int) -> (result: T, carry: Bool, overflow: Bool)

  @inline(__always)
  private static func execute<T: Word>(
    _ processor: SoftwareProcessor, _ op: Op, _ type: T.Type, _ shift: Shift<T>
  ) throws(GuestFault) -> Flow {
    let isByRegister = op.pointee.third == UInt8(truncatingIfNeeded: 8)
    let wanted = isByRegister ? processor.gpr(1) : op.pointee.immediate
    let count = Int(truncatingIfNeeded: wanted & (T.bitWidth == 64 ? 63 : 31))
    let source = processor.register(op.pointee.source, as: T.self)
    let old = try processor.updateFirstOperand(op) { (value: T) in
      count == 0 ? value : shift(value, source, count).result
    }
    if count == 0 { return .next }
    let (result, carry, overflow) = shift(old, source, count)
    processor.setFlags(
      RFLAGS.arithmetic,
      ArithmeticFlags.result(result) | RFLAGS.af | (carry ? RFLAGS.cf : 0) | (overflow ? RFLAGS.of : 0))
    return .next
  }

  @inline(__always)
  private static func left<T: Word>(_ value: T, _ source: T, _ count: Int) -> (T, Bool, Bool) {
    let width = T.bitWidth
    // Smart shifts give 0 where a count reaches the width.
    let result =
      count <= width
      ? value << count | source >> (width &- count) : source << (count &- width) | source >> (2 &* width &- count)
    guard count <= width else { return (result, false, false) }
    let carry = value >> (width &- count) & 1 != 0
    return (result, carry, carry != (count < width && result.leadingZeroBitCount == 0))
  }

  @inline(__always)
  private static func right<T: Word>(_ value: T, _ source: T, _ count: Int) -> (T, Bool, Bool) {
    let width = T.bitWidth
    let result =
      count <= width
      ? value >> count | source << (width &- count) : source >> (count &- width) | source << (2 &* width &- count)
    let carry = count <= width && value >> (count &- 1) & 1 != 0
    let overflow = (result ^ (result << 1)).leadingZeroBitCount == 0
    return (result, carry, overflow)
  }
}
