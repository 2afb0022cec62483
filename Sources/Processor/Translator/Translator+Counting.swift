import CHost
import CZydis
import X86

/// Counting the instructions that run translated.
///
/// Blocks are charged when they are entered, by the chain or by translated code, and both sides know the budget that is
/// left. So where translated code is entered and left, the sum of that budget and of what was charged and has not run yet
/// tells what is still to run, exactly; what it loses in between is what ran translated. Nothing of this is in the
/// translations themselves, and where nobody wants to know, nothing at all.
extension Translator {
  private static func memory(_ base: Int, _ offset: Int) -> HostOperand {
    .memory(base: base, index: nil, scale: 0, displacement: Int32(offset))
  }

  /// On entry, with the state in RDI and the operation in RSI. Destroys RAX and R11.
  func emitCountOnEntry(_ code: inout HostAssembler) {
    guard options.countsInstructions else { return }
    let rax = HostRegister.rax
    let r11 = HostRegister.r11
    code.load(r11, Self.memory(HostRegister.rdi, StateOffset.block))
    code.load(rax, Self.memory(r11, BlockOffset.instructionCount), size: 4)
    // MOVZX R11D, byte.
    code.instruction(.escape0f, 0xb6, reg: r11, Self.memory(HostRegister.rsi, OperationOffset.number), size: 4)
    code.arithmetic(5, rax, .register(r11))
    code.arithmetic(0, rax, Self.memory(HostRegister.rdi, StateOffset.budget))
    code.arithmetic(0, rax, .frame(FrameOffset.translatedCount))
    code.store(rax, .frame(FrameOffset.translatedCount))
  }

  /// On leaving, with the exit record in RAX, the operation in RSI and the budget in its register. Destroys RCX, RDX and R8.
  ///
  /// A record that names the operation that counts entries leaves between blocks: nothing was charged for it.
  func emitCountOnLeaving(_ code: inout HostAssembler) {
    guard options.countsInstructions else { return }
    let rcx = HostRegister.rcx
    let rdx = HostRegister.rdx
    let r8 = HostRegister.r8
    code.arithmetic(6, r8, .register(r8), size: 4)
    code.load(rcx, Self.memory(HostRegister.rax, RecordOffset.block))
    code.arithmetic(7, HostRegister.rsi, Self.memory(rcx, BlockOffset.operations))
    let isBetween = code.jump(if: HostCondition.zero)
    code.load(r8, Self.memory(rcx, BlockOffset.instructionCount), size: 4)
    code.instruction(.escape0f, 0xb6, reg: rcx, Self.memory(HostRegister.rsi, OperationOffset.number), size: 4)
    code.arithmetic(5, r8, .register(rcx))
    // MOVZX ECX, word [semantic]; INC qword.
    code.instruction(
      .escape0f, 0xb7, reg: rcx, Self.memory(HostRegister.rsi, OperationOffset.semantic), size: 4)
    code.loadAddress(rdx, .frame(FrameOffset.leaveCounts))
    code.arithmetic(
      0, .memory(base: rdx, index: rcx, scale: 3, displacement: 0), immediate: 1, size: 8)
    code.resolve(isBetween)
    code.arithmetic(0, r8, .register(GuestRegisters.budget))
    code.load(rcx, .frame(FrameOffset.translatedCount))
    code.arithmetic(5, rcx, .register(r8))
    code.store(rcx, .frame(FrameOffset.translatedCount))
  }

  /// How often translated code was left at which instruction, by its name: those that have no translation, and those that
  /// met something that translated code does not do.
  var leaveCounts: [String: UInt64] {
    guard options.countsInstructions else { return [:] }
    return withUnsafeBytes(of: &frame.pointee.leaveCounts) { bytes in
      let counts = bytes.bindMemory(to: UInt64.self)
      var result: [String: UInt64] = [:]
      for (number, row) in InstructionTable.rows.enumerated() where counts[number] > 0 {
        let name =
          number == Int(PseudoInstructions.native)
          ? "vector and x87" : ZydisMnemonicGetString(row.mnemonic).map { String(cString: $0) } ?? "no instruction"
        result[name, default: 0] &+= counts[number]
      }
      return result
    }
  }
}
