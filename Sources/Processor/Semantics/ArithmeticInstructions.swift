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
    InstructionRow(ZYDIS_MNEMONIC_INC) { (processor, op) throws(GuestFault) in
      try processor.bySize(op, Unary(change: { $0 &+ 1 }, kind: LazyFlags.increment))
    },
    InstructionRow(ZYDIS_MNEMONIC_DEC) { (processor, op) throws(GuestFault) in
      try processor.bySize(op, Unary(change: { $0 &- 1 }, kind: LazyFlags.decrement))
    },
    InstructionRow(ZYDIS_MNEMONIC_NEG) { (processor, op) throws(GuestFault) in
      try processor.bySize(op, Unary(change: { 0 &- $0 }, kind: LazyFlags.subtract))
    },
    InstructionRow(ZYDIS_MNEMONIC_NOT) { (processor, op) throws(GuestFault) in
      try processor.bySize(op, Unary(change: { ~$0 }, kind: nil))
    },
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

  /// An instruction with one operand that it reads and writes. `change` works on 64 bits; the low ones count.
  private struct Unary: SizedFunction {
    let change: (UInt64) -> UInt64
    let kind: UInt64?

    func run<T: Lane>(_ processor: SoftwareProcessor, _ op: Op, as type: T.Type) throws(GuestFault) -> Flow {
      let carry = processor.cpu.pointee.rflags & RFLAGS.cf
      let change = change
      let old: T = try processor.updateFirstOperand(op) { T(truncatingIfNeeded: change(Chain.extend($0))) }
      guard let kind else { return .next }
      let value = T(truncatingIfNeeded: change(Chain.extend(old)))
      processor.setFlags(
        kind == LazyFlags.subtract ? 0 : carry, Chain.extend(old), Chain.extend(value), kind)
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
      let (value, hasOverflowed) = x.multipliedReportingOverflow(by: y)
      processor.setRegister(op.pointee.destination, value)
      let flag: UInt64 = hasOverflowed ? 1 : 0
      processor.setFlags(flag, flag, Chain.extend(value), LazyFlags.separate)
      return .next
    }
  }
}
