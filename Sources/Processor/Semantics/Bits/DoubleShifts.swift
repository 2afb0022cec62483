import CHost
import CZydis
import X86

/// SHLD and SHRD.
///
/// A 16-bit operand shifted by more than 16 is undefined; as on AMD's Zen 5 the source follows twice, CF (and SHLD's OF)
/// are cleared and AF is set. The host's units never do that.
enum DoubleShifts {
  static let rows: [InstructionRow] = [
    InstructionRow(ZYDIS_MNEMONIC_SHLD, shiftLeft),
    InstructionRow(ZYDIS_MNEMONIC_SHRD, shiftRight),
  ]

  static func shiftLeft(_ processor: SoftwareProcessor, _ op: Op) throws(GuestFault) -> Flow {
    switch op.pointee.size {
    case 2: try execute(processor, op, UInt16.self, isLeft: true)
    case 4: try execute(processor, op, UInt32.self, isLeft: true)
    default: try execute(processor, op, UInt64.self, isLeft: true)
    }
  }

  static func shiftRight(_ processor: SoftwareProcessor, _ op: Op) throws(GuestFault) -> Flow {
    switch op.pointee.size {
    case 2: try execute(processor, op, UInt16.self, isLeft: false)
    case 4: try execute(processor, op, UInt32.self, isLeft: false)
    default: try execute(processor, op, UInt64.self, isLeft: false)
    }
  }

  @inline(__always)
  private static func execute<T: Word>(
    _ processor: SoftwareProcessor, _ op: Op, _ type: T.Type, isLeft: Bool
  ) throws(GuestFault) -> Flow {
    let isByRegister = op.pointee.third == UInt8(truncatingIfNeeded: 8)
    let wanted = isByRegister ? processor.gpr(1) : op.pointee.immediate
    let count = Int(truncatingIfNeeded: wanted & (T.bitWidth == 64 ? 63 : 31))
    let source = processor.register(op.pointee.source, as: T.self)
    let old = try processor.updateFirstOperand(op) { (value: T) in
      count == 0 ? value : shift(value, source, count, isLeft: isLeft).result
    }
    if count == 0 { return .next }
    let effect = effect(old, source, count, isLeft: isLeft)
    if count > T.bitWidth {
      processor.setFlags(RFLAGS.arithmetic, effect.first | RFLAGS.af)
    } else {
      processor.setFlags(isLeft ? .shld : .shrd, effect)
    }
    return .next
  }

  /// What happens to the flags; the count is not zero.
  static func effect<T: Word>(_ value: T, _ source: T, _ count: Int, isLeft: Bool) -> FlagEffect {
    let (result, carry, overflow) = shift(value, source, count, isLeft: isLeft)
    return .doubleShift(
      result, count, carry: carry, overflow: overflow, once: shift(value, source, 1, isLeft: isLeft).overflow)
  }

  @inline(__always)
  private static func shift<T: Word>(
    _ value: T, _ source: T, _ count: Int, isLeft: Bool
  ) -> (result: T, carry: Bool, overflow: Bool) {
    isLeft ? left(value, source, count) : right(value, source, count)
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
