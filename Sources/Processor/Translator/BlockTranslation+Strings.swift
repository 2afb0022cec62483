import CHost
import CZydis
import X86

/// REP MOVS and REP STOS of 64-bit code, upwards and within a page each: by the host's own. RSI, RDI and RCX are in their
/// namesakes. All others are the chain's, and so is what crosses into another page.
extension BlockTranslation {
  private static let rsi = 6
  private static let rdi = 7

  mutating func emitString(isMove: Bool) -> Bool {
    guard is64, op.addressMask == ~0, instruction.pointee.meta.category == ZYDIS_CATEGORY_STRINGOP,
      op.flags & OperationFlags.rep.rawValue != 0,
      !isMove || Int(op.segmentRegister) < SegmentRegister.fs.rawValue
    else { return false }
    let first = GuestRegisters.first
    let second = GuestRegisters.second
    let rcx = HostRegister.rcx
    let shift = Int(op.size).trailingZeroBitCount
    // They leave the guest's flags alone.
    destroyFlags()
    let retry = code.position
    code.load(first, .frame(FrameOffset.cpu))
    test(StateOffset.rflags, RFLAGS.df)
    leave(if: HostCondition.notZero)
    // Nothing is looked at for nothing.
    code.instruction(.primary, 0x85, reg: rcx, .register(rcx), size: 8)
    let isNone = code.jump(if: HostCondition.zero)
    code.arithmetic(7, .register(rcx), immediate: Int32(4096 >> shift))
    leave(if: HostCondition.above)
    // Where on a page it may begin: at 4096 less its bytes, at most.
    code.move(second, rcx)
    if shift > 0 {
      code.instruction(
        .primary, 0xc1, reg: 4, .register(second), size: 8, immediate: Int64(shift), immediateSize: 1)
    }
    code.instruction(.primary, 0xf7, reg: 3, .register(second), size: 8)
    code.arithmetic(0, .register(second), immediate: 4096)
    // A write that does not happen leaves no mark in the page tables.
    if isMove { check(Self.rsi, HostRegister.rsi, isWrite: false, retry: retry) }
    check(Self.rdi, HostRegister.rdi, isWrite: true, retry: retry)
    let toHost = addend(ofSlot: stringSlot(Self.rdi), isWrite: true)
    let fromHost = addend(ofSlot: stringSlot(Self.rsi), isWrite: false)
    code.arithmetic(0, HostRegister.rdi, toHost)
    if isMove {
      code.arithmetic(0, HostRegister.rsi, fromHost)
    } else {
      code.move(first, hostOfRAX)
    }
    if op.size == 2 { code.byte(0x66) }
    code.byte(0xf3)
    if op.size == 8 { code.byte(0x48) }
    code.byte((isMove ? 0xa4 : 0xaa) | (op.size == 1 ? 0 : 1))
    code.arithmetic(5, HostRegister.rdi, toHost)
    if isMove { code.arithmetic(5, HostRegister.rsi, fromHost) }
    code.resolve(isNone)
    return true
  }

  private func stringSlot(_ base: Int) -> Int { slot(base, 0) }

  /// Has the page of a pointer in its slot, and leaves unless the string begins there where R11 says, at most.
  private mutating func check(_ base: Int, _ host: Int, isWrite: Bool, retry: Int) {
    let first = GuestRegisters.first
    let slot = stringSlot(base)
    code.move(first, host)
    let request = RefillRequest(slot: slot, isWrite: isWrite, size: 1)
    refill(request, at: findPage(request), back: retry)
    code.arithmetic(7, first, .register(GuestRegisters.second))
    leave(if: HostCondition.above)
    // What is known of these slots is of other pages, perhaps.
    writeGroups[slot] = nil
    readGroups[slot] = nil
  }
}
