import CHost
import CZydis
import X86

/// BMI1 and BMI2: three-operand instructions on general registers, 32 or 64 bits wide.
///
/// AF and PF, undefined in most, are as on Zen 5: PF of the result's low byte, AF clear, except that BEXTR sets AF.
enum BitManipulation {
  static let rows: [InstructionRow] = [
    InstructionRow(ZYDIS_MNEMONIC_ANDN, andNot),
    InstructionRow(ZYDIS_MNEMONIC_BEXTR, extractField),
    InstructionRow(ZYDIS_MNEMONIC_BLSI, isolateLowest),
    InstructionRow(ZYDIS_MNEMONIC_BLSMSK, maskUpToLowest),
    InstructionRow(ZYDIS_MNEMONIC_BLSR, resetLowest),
    InstructionRow(ZYDIS_MNEMONIC_BZHI, zeroHigh),
    InstructionRow(ZYDIS_MNEMONIC_MULX, multiply),
    InstructionRow(ZYDIS_MNEMONIC_PDEP, deposit),
    InstructionRow(ZYDIS_MNEMONIC_PEXT, extract),
    InstructionRow(ZYDIS_MNEMONIC_RORX, rotateRight),
    InstructionRow(ZYDIS_MNEMONIC_SARX, shiftArithmeticRight),
    InstructionRow(ZYDIS_MNEMONIC_SHLX, shiftLeft),
    InstructionRow(ZYDIS_MNEMONIC_SHRX, shiftRight),
  ]

  private static func is64(_ op: Op) -> Bool { op.pointee.size == 8 }

  // MARK: Second operand register, third register or memory

  static func andNot(_ processor: SoftwareProcessor, _ op: Op) throws(GuestFault) -> Flow {
    is64(op) ? try andNot(processor, op, UInt64.self) : try andNot(processor, op, UInt32.self)
  }

  private static func andNot<T: Word>(_ processor: SoftwareProcessor, _ op: Op, _: T.Type) throws(GuestFault) -> Flow {
    let result = ~processor.register(op.pointee.source, as: T.self) & (try processor.thirdOperand(op, as: T.self))
    processor.setRegister(op.pointee.destination, result)
    processor.setFlags(RFLAGS.arithmetic, ArithmeticFlags.result(result))
    return .next
  }

  /// The low half is written first: the high half wins where both destinations are one register.
  static func multiply(_ processor: SoftwareProcessor, _ op: Op) throws(GuestFault) -> Flow {
    if is64(op) {
      let (high, low) = processor.gpr(2).multipliedFullWidth(by: try processor.thirdOperand(op, as: UInt64.self))
      processor.setRegister(op.pointee.source, low)
      processor.setRegister(op.pointee.destination, high)
    } else {
      let factor = UInt32(truncatingIfNeeded: processor.gpr(2))
      let (high, low) = factor.multipliedFullWidth(by: try processor.thirdOperand(op, as: UInt32.self))
      processor.setRegister(op.pointee.source, low)
      processor.setRegister(op.pointee.destination, high)
    }
    return .next
  }

  static func deposit(_ processor: SoftwareProcessor, _ op: Op) throws(GuestFault) -> Flow {
    try permute(processor, op) { source, mask in
      var source = source
      var mask = mask
      var result: UInt64 = 0
      while mask != 0 {
        if source & 1 != 0 { result |= mask & (0 &- mask) }
        source &>>= 1
        mask &= mask &- 1
      }
      return result
    }
  }

  static func extract(_ processor: SoftwareProcessor, _ op: Op) throws(GuestFault) -> Flow {
    try permute(processor, op) { source, mask in
      var mask = mask
      var result: UInt64 = 0
      var place: UInt64 = 1
      while mask != 0 {
        if source & mask & (0 &- mask) != 0 { result |= place }
        place &<<= 1
        mask &= mask &- 1
      }
      return result
    }
  }

  @inline(__always)
  private static func permute(
    _ processor: SoftwareProcessor, _ op: Op, _ body: (_ source: UInt64, _ mask: UInt64) -> UInt64
  ) throws(GuestFault) -> Flow {
    if is64(op) {
      let mask = try processor.thirdOperand(op, as: UInt64.self)
      processor.setRegister(op.pointee.destination, body(processor.register(op.pointee.source, as: UInt64.self), mask))
    } else {
      let mask = UInt64(try processor.thirdOperand(op, as: UInt32.self))
      let result = body(processor.register(op.pointee.source, as: UInt64.self), mask)
      processor.setRegister(op.pointee.destination, UInt32(truncatingIfNeeded: result))
    }
    return .next
  }

  // MARK: Second operand register or memory, third register or immediate

  static func rotateRight(_ processor: SoftwareProcessor, _ op: Op) throws(GuestFault) -> Flow {
    try shift(processor, op, by: op.pointee.immediate) { value, count in
      value &>> count | value &<< (0 &- count)
    } _: { value, count in
      value &>> count | value &<< (0 &- count)
    }
  }

  static func shiftLeft(_ processor: SoftwareProcessor, _ op: Op) throws(GuestFault) -> Flow {
    try shift(processor, op, by: count(processor, op)) {
      $0 &<< $1
    } _: {
      $0 &<< $1
    }
  }

  static func shiftRight(_ processor: SoftwareProcessor, _ op: Op) throws(GuestFault) -> Flow {
    try shift(processor, op, by: count(processor, op)) {
      $0 &>> $1
    } _: {
      $0 &>> $1
    }
  }

  static func shiftArithmeticRight(_ processor: SoftwareProcessor, _ op: Op) throws(GuestFault) -> Flow {
    try shift(processor, op, by: count(processor, op)) {
      UInt32(bitPattern: Int32(bitPattern: $0) &>> Int32(bitPattern: $1))
    } _: {
      UInt64(bitPattern: Int64(bitPattern: $0) &>> Int64(bitPattern: $1))
    }
  }

  private static func count(_ processor: SoftwareProcessor, _ op: Op) -> UInt64 {
    processor.register(op.pointee.third, as: UInt64.self)
  }

  /// Masking shifts do what these instructions do with large counts. No flags change.
  @inline(__always)
  private static func shift(
    _ processor: SoftwareProcessor, _ op: Op, by count: UInt64, _ narrow: (UInt32, UInt32) -> UInt32,
    _ wide: (UInt64, UInt64) -> UInt64
  ) throws(GuestFault) -> Flow {
    if is64(op) {
      processor.setRegister(op.pointee.destination, wide(try processor.secondOperand(op, as: UInt64.self), count))
    } else {
      let value = try processor.secondOperand(op, as: UInt32.self)
      processor.setRegister(op.pointee.destination, narrow(value, UInt32(truncatingIfNeeded: count)))
    }
    return .next
  }

  static func extractField(_ processor: SoftwareProcessor, _ op: Op) throws(GuestFault) -> Flow {
    let value =
      is64(op)
      ? try processor.secondOperand(op, as: UInt64.self) : UInt64(try processor.secondOperand(op, as: UInt32.self))
    let control = count(processor, op)
    let length = control >> 8 & 0xff
    // Smart shifts: a start beyond the operand gives zero.
    let field = value >> (control & 0xff)
    let result = length < 64 ? field & ((1 as UInt64) << length &- 1) : field
    set(processor, op, result)
    processor.setFlags(
      RFLAGS.arithmetic, RFLAGS.af | ArithmeticFlags.parity(result) | (result == 0 ? RFLAGS.zf : 0))
    return .next
  }

  static func zeroHigh(_ processor: SoftwareProcessor, _ op: Op) throws(GuestFault) -> Flow {
    is64(op) ? try zeroHigh(processor, op, UInt64.self) : try zeroHigh(processor, op, UInt32.self)
  }

  private static func zeroHigh<T: Word>(_ processor: SoftwareProcessor, _ op: Op, _: T.Type) throws(GuestFault) -> Flow
  {
    let value = try processor.secondOperand(op, as: T.self)
    let index = Int(truncatingIfNeeded: count(processor, op) & 0xff)
    let result = index < T.bitWidth ? value & ((1 as T) << index &- 1) : value
    processor.setRegister(op.pointee.destination, result)
    processor.setFlags(
      RFLAGS.arithmetic, ArithmeticFlags.result(result) | (index >= T.bitWidth ? RFLAGS.cf : 0))
    return .next
  }

  private static func set(_ processor: SoftwareProcessor, _ op: Op, _ value: UInt64) {
    if is64(op) {
      processor.setRegister(op.pointee.destination, value)
    } else {
      processor.setRegister(op.pointee.destination, UInt32(truncatingIfNeeded: value))
    }
  }

  // MARK: The lowest set bit

  static func isolateLowest(_ processor: SoftwareProcessor, _ op: Op) throws(GuestFault) -> Flow {
    is64(op)
      ? try lowest(processor, op, UInt64.self, carriesIfZero: false) { $0 & (0 &- $0) }
      : try lowest(processor, op, UInt32.self, carriesIfZero: false) { $0 & (0 &- $0) }
  }

  static func maskUpToLowest(_ processor: SoftwareProcessor, _ op: Op) throws(GuestFault) -> Flow {
    is64(op)
      ? try lowest(processor, op, UInt64.self, carriesIfZero: true) { $0 ^ ($0 &- 1) }
      : try lowest(processor, op, UInt32.self, carriesIfZero: true) { $0 ^ ($0 &- 1) }
  }

  static func resetLowest(_ processor: SoftwareProcessor, _ op: Op) throws(GuestFault) -> Flow {
    is64(op)
      ? try lowest(processor, op, UInt64.self, carriesIfZero: true) { $0 & ($0 &- 1) }
      : try lowest(processor, op, UInt32.self, carriesIfZero: true) { $0 & ($0 &- 1) }
  }

  @inline(__always)
  private static func lowest<T: Word>(
    _ processor: SoftwareProcessor, _ op: Op, _: T.Type, carriesIfZero: Bool, _ body: (T) -> T
  ) throws(GuestFault) -> Flow {
    let source = try processor.secondOperand(op, as: T.self)
    let result = body(source)
    processor.setRegister(op.pointee.destination, result)
    processor.setFlags(
      RFLAGS.arithmetic, ArithmeticFlags.result(result) | ((source == 0) == carriesIfZero ? RFLAGS.cf : 0))
    return .next
  }
}
