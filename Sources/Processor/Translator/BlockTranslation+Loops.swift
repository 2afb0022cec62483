import CHost
import CZydis
import X86

/// Blocks that are loops, and the loop instructions.
extension BlockTranslation {
  // MARK: Blocks that repeat themselves
  //
  // A branch to the beginning of its own block needs no link: nothing that runs in a translation drops the block and goes on
  // in it. What the block has borrowed stays, and flags that the beginning writes before anybody sees them are not saved.

  /// Whether the direct branch leads to its own block's beginning.
  func repeatsBlock(_ operation: Int) -> Bool { !isTail && isLinkable(operation) && target(of: operation) == place }

  /// Where a branch to the beginning has the flags.
  var flagSourceOfRepetition: FlagSource {
    if !flagsAreInFrame, let flagRecipe, flagsDie(from: 0) { return .recipe(flagRecipe) }
    return flagSource
  }

  /// Goes to the block's beginning if the budget allows it; otherwise takes the branch `operation` as any other.
  mutating func emitRepetition(_ operation: Int, flags: FlagSource) {
    var flags = flags
    if case .recipe = flags, flagsDie(from: 0) {
      // They are saved where somebody may see them.
    } else {
      emitSaving(of: flags)
      flags = .frame
    }
    let budget = GuestRegisters.budget
    let cost = Int32(block.pointee.instructionCount) - Int32(operations[operation].detail)
    code.arithmetic(5, .register(budget), immediate: cost)
    code.jump(if: HostCondition.notSign, to: repetition)
    code.arithmetic(0, .register(budget), immediate: cost)
    settle(flags)
    emitLink(operation)
  }

  // MARK: LOOP, LOOPE, LOOPNE and the jumps at a counter of zero
  //
  // The counter is CX, ECX or RCX by address size; where that is not the size of the target, the chain does them.

  /// In bytes.
  private var counterSize: Int { op.addressMask == 0xffff ? 2 : op.addressMask == 0xffff_ffff ? 4 : 8 }

  private var isPlainLoop: Bool { isPlainDirectBranch && op.addressMask == targetMask(of: current) }

  /// TEST of the counter by itself.
  private mutating func testCounter() {
    code.instruction(.primary, 0x85, reg: HostRegister.rcx, .register(HostRegister.rcx), size: counterSize)
  }

  mutating func emitLoop() -> Bool {
    guard isPlainLoop else { return false }
    if instruction.pointee.mnemonic != ZYDIS_MNEMONIC_LOOP { saveFlags() }
    destroyFlags()
    code.loadAddress(
      HostRegister.rcx, .memory(base: HostRegister.rcx, index: nil, scale: 0, displacement: -1), size: counterSize)
    testCounter()
    guard instruction.pointee.mnemonic != ZYDIS_MNEMONIC_LOOP else {
      emitFollow(code.jump(if: HostCondition.notZero), current)
      return true
    }
    let isZero = code.jump(if: HostCondition.zero)
    // ZF as LAHF has it.
    code.instruction(
      .primary, 0xf6, reg: 0, .frame(FrameOffset.flags + 1), size: 1, immediate: Int64(RFLAGS.zf), immediateSize: 1)
    let isEqual = instruction.pointee.mnemonic == ZYDIS_MNEMONIC_LOOPE
    emitFollow(code.jump(if: isEqual ? HostCondition.notZero : HostCondition.zero), current)
    code.resolve(isZero)
    return true
  }

  /// JCXZ, JECXZ and JRCXZ.
  mutating func emitJumpIfCounterIsZero() -> Bool {
    guard isPlainLoop else { return false }
    destroyFlags()
    testCounter()
    emitFollow(code.jump(if: HostCondition.zero), current)
    return true
  }
}
