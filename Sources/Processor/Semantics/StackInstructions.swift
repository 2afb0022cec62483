import CHost
import CZydis
import X86

/// PUSH and POP of general registers, memory and immediates. Those of segment registers have rows of their own.
enum StackInstructions {
  static let rows: [InstructionRow] = [
    InstructionRow(ZYDIS_MNEMONIC_PUSH) { (processor, op) throws(GuestFault) in
      let size = Int(op.pointee.size)
      let value: UInt64
      if op.pointee.flags & OperationFlags.immediateFirst.rawValue != 0 {
        value = op.pointee.immediate
      } else {
        value =
          switch size {
          case 2: UInt64(try processor.firstOperand(op, as: UInt16.self))
          case 4: UInt64(try processor.firstOperand(op, as: UInt32.self))
          default: try processor.firstOperand(op, as: UInt64.self)
          }
      }
      try processor.push(value, size: size)
      return .next
    },
    InstructionRow(ZYDIS_MNEMONIC_POP) { (processor, op) throws(GuestFault) in
      let size = Int(op.pointee.size)
      let value = try processor.peekStack(0, size: size)
      let old = processor.cpu.pointee.gpr.4
      // A memory destination is addressed with RSP as it is after the pop.
      processor.stackPointer = processor.stackPointer &+ UInt64(size)
      do throws(GuestFault) {
        switch size {
        case 2: try processor.setFirstOperand(op, UInt16(truncatingIfNeeded: value))
        case 4: try processor.setFirstOperand(op, UInt32(truncatingIfNeeded: value))
        default: try processor.setFirstOperand(op, value)
        }
      } catch {
        processor.cpu.pointee.gpr.4 = old
        throw error
      }
      return .next
    },
  ]
}
