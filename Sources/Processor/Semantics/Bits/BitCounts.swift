import CHost
import CZydis
import X86

/// BSF, BSR, TZCNT, LZCNT and POPCNT.
enum BitCounts {
  static let rows: [InstructionRow] = [
    InstructionRow(ZYDIS_MNEMONIC_BSF, scanForward),
    InstructionRow(ZYDIS_MNEMONIC_BSR, scanReverse),
    InstructionRow(ZYDIS_MNEMONIC_TZCNT, countTrailingZeros),
    InstructionRow(ZYDIS_MNEMONIC_LZCNT, countLeadingZeros),
    InstructionRow(ZYDIS_MNEMONIC_POPCNT, countOnes),
  ]

  static func scanForward(_ processor: SoftwareProcessor, _ op: Op) throws(GuestFault) -> Flow {
    switch op.pointee.size {
    case 2: try scan(processor, op, .bsf, .bsfZero, UInt16.self) { $0.trailingZeroBitCount }
    case 4: try scan(processor, op, .bsf, .bsfZero, UInt32.self) { $0.trailingZeroBitCount }
    default: try scan(processor, op, .bsf, .bsfZero, UInt64.self) { $0.trailingZeroBitCount }
    }
  }

  static func scanReverse(_ processor: SoftwareProcessor, _ op: Op) throws(GuestFault) -> Flow {
    switch op.pointee.size {
    case 2: try scan(processor, op, .bsr, .bsrZero, UInt16.self) { 15 &- $0.leadingZeroBitCount }
    case 4: try scan(processor, op, .bsr, .bsrZero, UInt32.self) { 31 &- $0.leadingZeroBitCount }
    default: try scan(processor, op, .bsr, .bsrZero, UInt64.self) { 63 &- $0.leadingZeroBitCount }
    }
  }

  /// A source of zero leaves the destination register as it was, its upper half too where the host does that.
  @inline(__always)
  private static func scan<T: Word>(
    _ processor: SoftwareProcessor, _ op: Op, _ family: FlagFamily, _ zero: FlagFamily, _ type: T.Type,
    _ index: (T) -> Int
  ) throws(GuestFault) -> Flow {
    let source = try processor.secondOperand(op, as: T.self)
    guard source != 0 else {
      if T.bitWidth == 32, processor.flagRules.scanOfZeroClearsUpperHalf {
        processor.setRegister(op.pointee.destination, processor.register(op.pointee.destination, as: T.self))
      }
      processor.setFlags(zero, .scan(0, source: source))
      return .next
    }
    let result = T(truncatingIfNeeded: index(source))
    processor.setRegister(op.pointee.destination, result)
    processor.setFlags(family, .scan(result, source: source))
    return .next
  }

  static func countTrailingZeros(_ processor: SoftwareProcessor, _ op: Op) throws(GuestFault) -> Flow {
    switch op.pointee.size {
    case 2: try count(processor, op, .tzcnt, UInt16.self) { $0.trailingZeroBitCount }
    case 4: try count(processor, op, .tzcnt, UInt32.self) { $0.trailingZeroBitCount }
    default: try count(processor, op, .tzcnt, UInt64.self) { $0.trailingZeroBitCount }
    }
  }

  static func countLeadingZeros(_ processor: SoftwareProcessor, _ op: Op) throws(GuestFault) -> Flow {
    switch op.pointee.size {
    case 2: try count(processor, op, .lzcnt, UInt16.self) { $0.leadingZeroBitCount }
    case 4: try count(processor, op, .lzcnt, UInt32.self) { $0.leadingZeroBitCount }
    default: try count(processor, op, .lzcnt, UInt64.self) { $0.leadingZeroBitCount }
    }
  }

  @inline(__always)
  private static func count<T: Word>(
    _ processor: SoftwareProcessor, _ op: Op, _ family: FlagFamily, _ type: T.Type, _ zeros: (T) -> Int
  ) throws(GuestFault) -> Flow {
    let source = try processor.secondOperand(op, as: T.self)
    let result = T(truncatingIfNeeded: zeros(source))
    processor.setRegister(op.pointee.destination, result)
    processor.setFlags(family, .count(result, source: source))
    return .next
  }

  static func countOnes(_ processor: SoftwareProcessor, _ op: Op) throws(GuestFault) -> Flow {
    switch op.pointee.size {
    case 2: try countOnes(processor, op, UInt16.self)
    case 4: try countOnes(processor, op, UInt32.self)
    default: try countOnes(processor, op, UInt64.self)
    }
  }

  private static func countOnes<T: Word>(
    _ processor: SoftwareProcessor, _ op: Op, _ type: T.Type
  ) throws(GuestFault) -> Flow {
    let source = try processor.secondOperand(op, as: T.self)
    processor.setRegister(op.pointee.destination, T(truncatingIfNeeded: source.nonzeroBitCount))
    processor.setFlags(RFLAGS.arithmetic, source == 0 ? RFLAGS.zf : 0)
    return .next
  }
}
