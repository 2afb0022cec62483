import CHost
import CZydis
import X86

/// The system instructions that kernels execute most, at CPL 0.
extension BlockTranslation {
  private var isSupervisor: Bool { !mode.contains(.unprivileged) }

  /// A field of the CPU state whose address is in RAX.
  func state(_ offset: Int) -> HostOperand {
    .memory(base: GuestRegisters.first, index: nil, scale: 0, displacement: Int32(offset))
  }

  /// TEST dword [field of the state], bits. The state's address is in RAX.
  mutating func test(_ offset: Int, _ bits: UInt64) {
    code.instruction(
      .primary, 0xf7, reg: 0, state(offset), size: 4, immediate: Int64(bits), immediateSize: 4)
  }

  /// Leaves for the chain if something waits for interrupts to be let in. The state's address is in RAX; destroys R11.
  mutating func leaveIfEventsWait() {
    code.testWaitingEvents(GuestRegisters.second)
    leave(if: HostCondition.notZero)
  }

  /// CLD and STD.
  mutating func emitDirection(isSet: Bool) -> Bool {
    destroyFlags()
    code.load(GuestRegisters.first, .frame(FrameOffset.cpu))
    let flag = Int32(RFLAGS.df)
    code.arithmetic(isSet ? 1 : 4, state(StateOffset.rflags), immediate: isSet ? flag : ~flag, size: 4)
    return true
  }

  mutating func emitClearInterrupts() -> Bool {
    guard isSupervisor else { return false }
    destroyFlags()
    code.load(GuestRegisters.first, .frame(FrameOffset.cpu))
    code.arithmetic(4, state(StateOffset.rflags), immediate: ~Int32(RFLAGS.if), size: 4)
    return true
  }

  /// Where something waits for interrupts to be let in, the chain does it.
  mutating func emitSetInterrupts() -> Bool {
    guard isSupervisor else { return false }
    destroyFlags()
    let second = GuestRegisters.second
    code.load(GuestRegisters.first, .frame(FrameOffset.cpu))
    leaveIfEventsWait()
    // No shadow where interrupts were let in before; nor one that was cast here earlier, over the same instruction.
    setShadow([])
    test(StateOffset.rflags, RFLAGS.if)
    let wasSet = code.jump(if: HostCondition.notZero)
    code.arithmetic(1, state(StateOffset.rflags), immediate: Int32(RFLAGS.if), size: 4)
    setShadow(.STI)
    let rest = Int32(block.pointee.instructionCount) - Int32(op.number) - 1
    code.loadAddress(second, .memory(base: GuestRegisters.budget, index: nil, scale: 0, displacement: rest))
    code.arithmetic(0, second, .frame(FrameOffset.reserve))
    code.store(second, state(StateOffset.shadowBudget))
    code.resolve(wasSet)
    return true
  }

  /// The state's address is in RAX.
  private mutating func setShadow(_ shadow: InterruptShadow) {
    code.instruction(
      .primary, 0xc6, reg: 0, state(StateOffset.interruptShadow), size: 1, immediate: Int64(shadow.rawValue),
      immediateSize: 1)
  }

  /// STAC and CLAC under SMAP: another table of pages. Slots that were filled while the rights were wider are emptied
  /// again.
  mutating func emitAccess(isSet: Bool) -> Bool {
    guard isSupervisor else { return false }
    let set = slotSet
    let flag = Int32(RFLAGS.ac)
    let distance = Int32(TranslationCache.pageCount * MemoryLayout<TLBEntry>.stride) * (isSet ? 1 : -1)
    let count = HostOperand.frame(FrameOffset.set(set, SlotSetOffset.filledCount))
    destroyFlags()
    code.load(GuestRegisters.first, .frame(FrameOffset.cpu))
    test(StateOffset.cr4, CR4.smap)
    leave(if: HostCondition.zero)
    test(StateOffset.rflags, RFLAGS.ac)
    let isAlready = code.jump(if: isSet ? HostCondition.notZero : HostCondition.zero)
    if !isSet {
      code.arithmetic(7, count, immediate: Int32(FilledSlotCapacity))
      leave(if: HostCondition.above)
    }
    // The table of CPL 0 is always the one that AC says.
    code.arithmetic(isSet ? 1 : 4, state(StateOffset.rflags), immediate: isSet ? flag : ~flag, size: 4)
    code.arithmetic(0, state(StateOffset.tlb), immediate: distance, size: 8)
    code.arithmetic(0, .frame(FrameOffset.set(set, SlotSetOffset.tlb)), immediate: distance, size: 8)
    if isSet {
      Translator.emitKeeping(&code, set)
    } else {
      code.call(to: translator.glue.forgetFilled[set])
      readGroups = [:]
      writeGroups = [:]
    }
    code.resolve(isAlready)
    return true
  }

  mutating func emitSwapBases() -> Bool {
    guard isSupervisor, is64 else { return false }
    let second = GuestRegisters.second
    let base = StateOffset.base(SegmentRegister.gs.rawValue)
    code.load(GuestRegisters.first, .frame(FrameOffset.cpu))
    code.load(second, state(base))
    code.store(second, .frame(FrameOffset.scratch))
    code.load(second, state(StateOffset.kernelGSBase))
    code.store(second, state(base))
    code.load(second, .frame(FrameOffset.scratch))
    code.store(second, state(StateOffset.kernelGSBase))
    return true
  }

  /// The base that RDFSBASE to WRGSBASE are about.
  private var namedBase: Int {
    switch instruction.pointee.mnemonic {
    case ZYDIS_MNEMONIC_RDFSBASE, ZYDIS_MNEMONIC_WRFSBASE: StateOffset.base(SegmentRegister.fs.rawValue)
    default: StateOffset.base(SegmentRegister.gs.rawValue)
    }
  }

  /// Has the state's address in RAX, and leaves unless bases may be read and written.
  private mutating func checkBaseAccess() {
    destroyFlags()
    code.load(GuestRegisters.first, .frame(FrameOffset.cpu))
    test(StateOffset.cr4, CR4.fsgsbase)
    leave(if: HostCondition.zero)
  }

  mutating func emitReadBase() -> Bool {
    guard is64, let register = register(operands) else { return false }
    let host = register.host ?? GuestRegisters.second
    checkBaseAccess()
    code.load(host, state(namedBase), size: register.size)
    if register.host == nil { code.store(host, GuestRegisters.home(register.guest)) }
    return true
  }

  mutating func emitWriteBase() -> Bool {
    guard is64, let register = register(operands) else { return false }
    let second = GuestRegisters.second
    let source = register.host.map { HostOperand.register($0) } ?? GuestRegisters.home(register.guest)
    checkBaseAccess()
    code.load(second, source, size: register.size)
    if register.size == 8 {
      // What takes more than 48 bits is for the chain to look at. SHL, SAR.
      for field in [4, 7] {
        code.instruction(.primary, 0xc1, reg: field, .register(second), size: 8, immediate: 16, immediateSize: 1)
      }
      code.arithmetic(7, second, source)
      leave(if: HostCondition.notZero)
    }
    code.store(second, state(namedBase))
    return true
  }

  /// PUSHFQ, PUSHFD and PUSHF, at any privilege level; in virtual-8086 mode they may fault.
  mutating func emitPushFlags() -> Bool {
    guard is64 else { return emitShortPushFlags() }
    guard instruction.pointee.mnemonic == ZYDIS_MNEMONIC_PUSHFQ else { return false }
    let second = GuestRegisters.second
    saveFlags()
    destroyFlags()
    _ = access(stack(-8), size: 8, isWrite: true)
    loadFlagsImage(into: second)
    // RAX is another now; the access is checked, so nothing else is done again.
    code.store(second, access(stack(-8), size: 8, isWrite: true))
    moveStackPointer(by: -8)
    return true
  }

  private mutating func emitShortPushFlags() -> Bool {
    guard isSupervisor || !mode.contains(.paragraphs) else { return false }
    let second = GuestRegisters.second
    let size = instruction.pointee.mnemonic == ZYDIS_MNEMONIC_PUSHF ? 2 : 4
    saveFlags()
    destroyFlags()
    _ = accessInSecond(stack(Int32(-size)), size: size, isWrite: true)
    code.store(second, .frame(FrameOffset.target))
    loadFlagsImage(into: second)
    code.load(GuestRegisters.first, .frame(FrameOffset.target))
    code.store(second, .memory(base: GuestRegisters.first, index: nil, scale: 0, displacement: 0), size: size)
    moveStackPointer(by: Int32(-size))
    return true
  }

  /// RDTSC and RDTSCP, where nobody wants to see them.
  mutating func emitTimeStamp() -> Bool {
    let first = GuestRegisters.first
    let second = GuestRegisters.second
    guard let rax = GuestRegisters.host(GuestRegisters.rax) else { return false }
    destroyFlags()
    code.load(first, .frame(FrameOffset.cpu))
    test(StateOffset.intercepts, UInt64(CPUIntercepts.timeStampCounter.rawValue))
    leave(if: HostCondition.notZero)
    if !isSupervisor {
      test(StateOffset.cr4, CR4.tsd)
      leave(if: HostCondition.notZero)
    }
    code.load(second, state(StateOffset.tscOffset))
    if instruction.pointee.mnemonic == ZYDIS_MNEMONIC_RDTSCP {
      code.load(HostRegister.rcx, state(StateOffset.tscAux), size: 4)
    }
    // RDTSC; SHL RDX, 32; OR RAX, RDX; ADD RAX, offset.
    code.bytes(0x0f, 0x31)
    code.instruction(.primary, 0xc1, reg: 4, .register(HostRegister.rdx), size: 8, immediate: 32, immediateSize: 1)
    code.arithmetic(1, first, .register(HostRegister.rdx))
    code.arithmetic(0, first, .register(second))
    code.move(HostRegister.rdx, first)
    code.instruction(.primary, 0xc1, reg: 5, .register(HostRegister.rdx), size: 8, immediate: 32, immediateSize: 1)
    code.load(rax, .register(first), size: 4)
    return true
  }
}
