import CHost
import CZydis
import X86

/// LOOP, LOOPE, LOOPNE and the jumps at a counter of zero. The counter is CX, ECX or RCX by address size; where that is not
/// the size of the target, the chain does them.
extension BlockTranslation {
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
