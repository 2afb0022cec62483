import CHost
import CZydis
import X86

/// MOV between general registers, memory and immediates; MOVZX, MOVSX, MOVSXD, LEA, CMOVcc, SETcc, the sign extensions of
/// the accumulator, NOP.
enum MoveInstructions {
  static let rows: [InstructionRow] =
    [
      InstructionRow(ZYDIS_MNEMONIC_MOV) { (processor, op) throws(GuestFault) in
        try processor.bySize(op, Move())
      },
      InstructionRow(ZYDIS_MNEMONIC_MOVZX) { (processor, op) throws(GuestFault) in
        let value: UInt64 =
          op.pointee.sourceSize == 1
          ? UInt64(try processor.secondOperand(op, as: UInt8.self))
          : UInt64(try processor.secondOperand(op, as: UInt16.self))
        processor.setDestination(op, value)
        return .next
      },
      InstructionRow(ZYDIS_MNEMONIC_MOVSX, [], signExtend),
      InstructionRow(ZYDIS_MNEMONIC_MOVSXD, [], signExtend),
      InstructionRow(ZYDIS_MNEMONIC_LEA) { (processor, op) throws(GuestFault) in
        processor.setDestination(op, processor.effectiveAddress(op))
        return .next
      },
      InstructionRow(ZYDIS_MNEMONIC_CBW) { (processor, _) throws(GuestFault) in
        processor.setRegister(0, Int16(processor.register(0, as: Int8.self)))
        return .next
      },
      InstructionRow(ZYDIS_MNEMONIC_CWDE) { (processor, _) throws(GuestFault) in
        processor.setRegister(0, Int32(processor.register(0, as: Int16.self)))
        return .next
      },
      InstructionRow(ZYDIS_MNEMONIC_CDQE) { (processor, _) throws(GuestFault) in
        processor.setRegister(0, Int64(processor.register(0, as: Int32.self)))
        return .next
      },
      InstructionRow(ZYDIS_MNEMONIC_CWD) { (processor, _) throws(GuestFault) in
        processor.setRegister(16, processor.register(0, as: Int16.self) >> 15)
        return .next
      },
      InstructionRow(ZYDIS_MNEMONIC_CDQ) { (processor, _) throws(GuestFault) in
        processor.setRegister(16, processor.register(0, as: Int32.self) >> 31)
        return .next
      },
      InstructionRow(ZYDIS_MNEMONIC_CQO) { (processor, _) throws(GuestFault) in
        processor.setRegister(16, processor.register(0, as: Int64.self) >> 63)
        return .next
      },
      InstructionRow(ZYDIS_MNEMONIC_NOP) { (_, _) throws(GuestFault) in .next },
    ]
    + ConditionCode.moves.map { mnemonic in
      InstructionRow(mnemonic) { (processor, op) throws(GuestFault) in try processor.bySize(op, ConditionalMove()) }
    }
    + ConditionCode.sets.map { mnemonic in
      InstructionRow(mnemonic) { (processor, op) throws(GuestFault) in
        try processor.setFirstOperand(op, processor.holds(op.pointee.detail) ? 1 : 0 as UInt8)
        return .next
      }
    }

  private static let signExtend: SemanticFunction = { (processor, op) throws(GuestFault) in
    let value: Int64 =
      switch op.pointee.sourceSize {
      case 1: Int64(try processor.secondOperand(op, as: Int8.self))
      case 2: Int64(try processor.secondOperand(op, as: Int16.self))
      default: Int64(try processor.secondOperand(op, as: Int32.self))
      }
    processor.setDestination(op, UInt64(bitPattern: value))
    return .next
  }

  private struct Move: SizedFunction {
    func run<T: Lane>(_ processor: SoftwareProcessor, _ op: Op, as type: T.Type) throws(GuestFault) -> Flow {
      try processor.setFirstOperand(op, processor.secondOperand(op, as: T.self))
      return .next
    }
  }

  /// The source is read, and may fault, whether the condition holds or not; a 32-bit destination is zero-extended in
  /// either case.
  private struct ConditionalMove: SizedFunction {
    func run<T: Lane>(_ processor: SoftwareProcessor, _ op: Op, as type: T.Type) throws(GuestFault) -> Flow {
      let value = try processor.secondOperand(op, as: T.self)
      let old = processor.register(op.pointee.destination, as: T.self)
      processor.setRegister(op.pointee.destination, processor.holds(op.pointee.detail) ? value : old)
      return .next
    }
  }
}

extension SoftwareProcessor {
  /// Whether a condition code holds for RFLAGS.
  func holds(_ condition: UInt16) -> Bool {
    LazyFlags.condition(condition, 0, 0, cpu.pointee.rflags, LazyFlags.materialized)
  }

  /// Writes the destination register in the operand size, 2 to 8 bytes.
  func setDestination(_ op: Op, _ value: UInt64) {
    switch op.pointee.size {
    case 2: setRegister(op.pointee.destination, UInt16(truncatingIfNeeded: value))
    case 4: setRegister(op.pointee.destination, UInt32(truncatingIfNeeded: value))
    default: setRegister(op.pointee.destination, value)
    }
  }
}
