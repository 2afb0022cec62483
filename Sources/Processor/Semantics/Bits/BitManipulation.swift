import CHost
import CZydis
import X86

/// BMI1 and BMI2: three-operand instructions on general registers, 32 or 64 bits wide.
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
    let source = try processor.thirdOperand(op, as: T.self)
    let result = ~processor.register(op.pointee.source, as: T.self) & source
    processor.setRegister(op.pointee.destination, result)
    processor.setFlags(.andn, .bits(.andn, result, source: source, carry: false))
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
    is64(op) ? try extractField(processor, op, UInt64.self) : try extractField(processor, op, UInt32.self)
  }

  private static func extractField<T: Word>(
    _ processor: SoftwareProcessor, _ op: Op, _: T.Type
  ) throws(GuestFault) -> Flow {
    let value = try processor.secondOperand(op, as: T.self)
    let result = field(value, count(processor, op))
    processor.setRegister(op.pointee.destination, result)
    processor.setFlags(.bextr, .bits(.bextr, result, source: value, carry: false))
    return .next
  }

  /// What BEXTR takes out of `value`.
  static func field<T: Word>(_ value: T, _ control: UInt64) -> T {
    let length = control >> 8 & 0xff
    // Smart shifts: a start beyond the operand gives zero.
    let field = value >> (control & 0xff)
    return length < T.bitWidth ? field & ((1 as T) << length &- 1) : field
  }

  static func zeroHigh(_ processor: SoftwareProcessor, _ op: Op) throws(GuestFault) -> Flow {
    is64(op) ? try zeroHigh(processor, op, UInt64.self) : try zeroHigh(processor, op, UInt32.self)
  }

  private static func zeroHigh<T: Word>(_ processor: SoftwareProcessor, _ op: Op, _: T.Type) throws(GuestFault) -> Flow
  {
    let value = try processor.secondOperand(op, as: T.self)
    let (result, isBeyond) = lower(value, count(processor, op))
    processor.setRegister(op.pointee.destination, result)
    processor.setFlags(.bzhi, .bits(.bzhi, result, source: value, carry: isBeyond))
    return .next
  }

  /// What BZHI leaves of `value`, and whether the index is beyond its bits.
  static func lower<T: Word>(_ value: T, _ count: UInt64) -> (T, isBeyond: Bool) {
    let index = Int(truncatingIfNeeded: count & 0xff)
    return index < T.bitWidth ? (value & ((1 as T) << index &- 1), false) : (value, true)
  }

  // MARK: The lowest set bit

  static func isolateLowest(_ processor: SoftwareProcessor, _ op: Op) throws(GuestFault) -> Flow {
    is64(op)
      ? try lowest(processor, op, .blsi, UInt64.self, carriesIfZero: false) { $0 & (0 &- $0) }
      : try lowest(processor, op, .blsi, UInt32.self, carriesIfZero: false) { $0 & (0 &- $0) }
  }

  static func maskUpToLowest(_ processor: SoftwareProcessor, _ op: Op) throws(GuestFault) -> Flow {
    is64(op)
      ? try lowest(processor, op, .blsmsk, UInt64.self, carriesIfZero: true) { $0 ^ ($0 &- 1) }
      : try lowest(processor, op, .blsmsk, UInt32.self, carriesIfZero: true) { $0 ^ ($0 &- 1) }
  }

  static func resetLowest(_ processor: SoftwareProcessor, _ op: Op) throws(GuestFault) -> Flow {
    is64(op)
      ? try lowest(processor, op, .blsr, UInt64.self, carriesIfZero: true) { $0 & ($0 &- 1) }
      : try lowest(processor, op, .blsr, UInt32.self, carriesIfZero: true) { $0 & ($0 &- 1) }
  }

  @inline(__always)
  private static func lowest<T: Word>(
    _ processor: SoftwareProcessor, _ op: Op, _ family: FlagFamily, _: T.Type, carriesIfZero: Bool, _ body: (T) -> T
  ) throws(GuestFault) -> Flow {
    let source = try processor.secondOperand(op, as: T.self)
    let result = body(source)
    processor.setRegister(op.pointee.destination, result)
    processor.setFlags(
      family, .bits(family, result, source: source, carry: (source == 0) == carriesIfZero))
    return .next
  }
}
