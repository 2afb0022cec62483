import CHost
import CZydis
import X86

/// ADD … CMP, TEST, INC, DEC, NEG, NOT and IMUL with two or three operands (SDM vol. 2).
enum ArithmeticInstructions {
  static let rows: [InstructionRow] = [
    InstructionRow(ZYDIS_MNEMONIC_ADD, function(Arithmetic.Add.self)),
    InstructionRow(ZYDIS_MNEMONIC_OR, function(Arithmetic.Or.self)),
    InstructionRow(ZYDIS_MNEMONIC_ADC, function(Arithmetic.Adc.self)),
    InstructionRow(ZYDIS_MNEMONIC_SBB, function(Arithmetic.Sbb.self)),
    InstructionRow(ZYDIS_MNEMONIC_AND, function(Arithmetic.And.self)),
    InstructionRow(ZYDIS_MNEMONIC_SUB, function(Arithmetic.Sub.self)),
    InstructionRow(ZYDIS_MNEMONIC_XOR, function(Arithmetic.Xor.self)),
    InstructionRow(ZYDIS_MNEMONIC_CMP, function(Arithmetic.Cmp.self)),
    InstructionRow(ZYDIS_MNEMONIC_TEST, function(Arithmetic.Test.self)),
    InstructionRow(ZYDIS_MNEMONIC_INC, change(Unary.Increment.self)),
    InstructionRow(ZYDIS_MNEMONIC_DEC, change(Unary.Decrement.self)),
    InstructionRow(ZYDIS_MNEMONIC_NEG, change(Unary.Negate.self)),
    InstructionRow(ZYDIS_MNEMONIC_NOT, change(Unary.Invert.self)),
    InstructionRow(ZYDIS_MNEMONIC_IMUL) { (processor, op) throws(GuestFault) in
      try processor.bySize(op, Multiply())
    },
  ]

  private static func function<O: ArithmeticOperation>(_ operation: O.Type) -> SemanticFunction {
    { (processor, op) throws(GuestFault) in try processor.bySize(op, Binary<O>()) }
  }

  private struct Binary<O: ArithmeticOperation>: SizedFunction {
    func run<T: Lane>(_ processor: SoftwareProcessor, _ op: Op, as type: T.Type) throws(GuestFault) -> Flow {
      let carry: T = O.usesCarry && processor.cpu.pointee.rflags & RFLAGS.cf != 0 ? 1 : 0
      let y = try processor.secondOperand(op, as: T.self)
      let x: T
      if O.writesResult {
        x = try processor.updateFirstOperand(op) { O.compute($0, y, carry) }
      } else {
        x = try processor.firstOperand(op, as: T.self)
      }
      processor.setFlags(Chain.extend(x), Chain.extend(y), Chain.extend(O.compute(x, y, carry)), O.kind)
      return .next
    }
  }

  private static func change<O: UnaryOperation>(_ operation: O.Type) -> SemanticFunction {
    { (processor, op) throws(GuestFault) in try processor.bySize(op, Change<O>()) }
  }

  private struct Change<O: UnaryOperation>: SizedFunction {
    func run<T: Lane>(_ processor: SoftwareProcessor, _ op: Op, as type: T.Type) throws(GuestFault) -> Flow {
      let carry = processor.cpu.pointee.rflags & RFLAGS.cf
      let old: T = try processor.updateFirstOperand(op) { O.compute($0) }
      guard let kind = O.kind else { return .next }
      processor.setFlags(O.keepsCarry ? carry : 0, Chain.extend(old), Chain.extend(O.compute(old)), kind)
      return .next
    }
  }

  /// IMUL r, r/m and IMUL r, r/m, imm; the form with one operand is `MultiplyDivide`'s.
  private struct Multiply: SizedFunction {
    func run<T: Lane>(_ processor: SoftwareProcessor, _ op: Op, as type: T.Type) throws(GuestFault) -> Flow {
      guard op.pointee.source != Operation.absent || op.pointee.flags & OperationFlags.memorySource.rawValue != 0 else {
        return try MultiplyDivide.multiplySigned(processor, op)
      }
      let y = try processor.secondOperand(op, as: T.self)
      let isThreeOperand = op.pointee.flags & OperationFlags.immediateThird.rawValue != 0
      let x =
        isThreeOperand
        ? T(truncatingIfNeeded: op.pointee.immediate) : processor.register(op.pointee.destination, as: T.self)
      let (high, low) = x.multipliedFullWidth(by: y)
      let value = T(truncatingIfNeeded: low)
      processor.setRegister(op.pointee.destination, value)
      processor.setFlags(
        .imulTruncating, .product(low: value, high: high, overflows: high != value &>> T(T.bitWidth - 1)))
      return .next
    }
  }
}
