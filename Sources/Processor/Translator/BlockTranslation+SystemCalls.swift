import CHost
import X86

/// SYSCALL and SYSRET between 64-bit code at CPL 3 and CPL 0, as `SystemCalls` has them: without leaving translated code
/// where the target is translated and the other side's slots are good.
///
/// All that can go wrong is found out first; then the chain does the whole of it.
extension BlockTranslation {
  private var first: Int { GuestRegisters.first }
  private var second: Int { GuestRegisters.second }

  /// Leaves unless the slots of the other privilege level are good for the table that lies `distance` entries from the
  /// current one. The state's address is in RAX.
  private mutating func checkSlots(_ set: Int, distance: Int) {
    for miss in code.checkSlots(set, distance: distance, using: second) { leave(at: miss) }
  }

  mutating func emitSystemCall() -> Bool {
    guard is64, mode.contains(.unprivileged) else { return false }
    let key = mode.subtracting(.unprivileged).rawValue
    saveFlags()
    destroyFlags()
    code.load(first, .frame(FrameOffset.cpu))
    test(StateOffset.efer, EFER.sce)
    leave(if: HostCondition.zero)
    test(StateOffset.rflags, RFLAGS.ac)
    leave(if: HostCondition.notZero)
    code.instruction(
      .primary, 0x80, reg: 7, state(StateOffset.cpl), size: 1, immediate: 3, immediateSize: 1)
    leave(if: HostCondition.notZero)
    checkSlots(0, distance: -TranslationCache.distanceToUser)
    code.load(second, state(StateOffset.lstar))
    keepTarget(key: key)

    // The image of RFLAGS in R11, the address of the next instruction in RCX.
    loadFlagsImage(into: second)
    code.store(second, GuestRegisters.home(11))
    loadAddress(ofPlace: nextPlace, into: HostRegister.rcx)
    // RFLAGS without what FMASK names.
    code.load(first, .frame(FrameOffset.cpu))
    code.load(first, state(StateOffset.fmask), size: 4)
    code.instruction(.primary, 0xf7, reg: 2, .register(first), size: 4)
    code.arithmetic(4, second, .register(first), size: 4)
    code.setFlags(from: second)
    // CS and SS: selectors from STAR's bits 47:32.
    code.load(second, state(StateOffset.star + 4), size: 4)
    code.arithmetic(4, .register(second), immediate: 0xfffc, size: 4)
    setSegments(code: SystemCalls.longCode, stackAfterCode: 8, stack: SystemCalls.data, cpl: 0)
    enterOther(key: key, distance: -TranslationCache.distanceToUser)
    return true
  }

  mutating func emitSystemReturn() -> Bool {
    guard is64, !mode.contains(.unprivileged), op.size == 8 else { return false }
    let key = mode.union(.unprivileged).rawValue
    saveFlags()
    destroyFlags()
    code.load(first, .frame(FrameOffset.cpu))
    test(StateOffset.efer, EFER.sce)
    leave(if: HostCondition.zero)
    test(StateOffset.rflags, RFLAGS.ac)
    leave(if: HostCondition.notZero)
    checkSlots(1, distance: TranslationCache.distanceToUser)
    leaveIfEventsWait()
    code.load(second, GuestRegisters.home(11))
    code.instruction(
      .primary, 0xf7, reg: 0, .register(second), size: 4, immediate: Int64(RFLAGS.tf | RFLAGS.ac), immediateSize: 4)
    leave(if: HostCondition.notZero)
    code.move(second, HostRegister.rcx)
    keepTarget(key: key)

    code.load(second, GuestRegisters.home(11), size: 4)
    code.arithmetic(4, .register(second), immediate: Int32(SystemCalls.returnedFlags), size: 4)
    code.load(first, .frame(FrameOffset.cpu))
    code.setFlags(from: second)
    // CS and SS: selectors from STAR's bits 63:48.
    code.instruction(.escape0f, 0xb7, reg: second, state(StateOffset.star + 6), size: 4)
    code.arithmetic(0, .register(second), immediate: 16, size: 4)
    code.instruction(.escape0f, 0xb7, reg: second, .register(second), size: 4)
    code.arithmetic(1, .register(second), immediate: 3, size: 4)
    setSegments(
      code: SystemCalls.longCode | SystemCalls.ring3, stackAfterCode: -8, stack: SystemCalls.data | SystemCalls.ring3,
      cpl: 3)
    enterOther(key: key, distance: TranslationCache.distanceToUser)
    return true
  }

  /// IRETQ, and IRETD of flat code: see `Translator.emitInterruptReturn`.
  mutating func emitInterruptReturn() -> Bool {
    let size = Int(op.size)
    guard !mode.contains(.unprivileged), size == (is64 ? 8 : 4), is64 || isFlat && mode.contains(.stack32) else {
      return false
    }
    saveFlags()
    destroyFlags()
    let count = MemoryLayout<InterruptFrame>.size / 8
    code.loadAddress(first, access(stack(0), size: count * size, isWrite: false))
    for field in 0..<count {
      code.load(
        second, .memory(base: first, index: nil, scale: 0, displacement: Int32(field * size)), size: size)
      code.store(second, .frame(FrameOffset.interruptFrame(\.rip) + field * 8))
    }
    if !is64 {
      // Within the ring neither ESP nor SS is popped.
      code.instruction(
        .primary, 0xf6, reg: 0, .frame(FrameOffset.interruptFrame(\.cs)), size: 1, immediate: 3, immediateSize: 1)
      let changesRing = code.jump(if: HostCondition.notZero)
      let rsp = GuestRegisters.host(GuestRegisters.rsp).unsafelyUnwrapped
      code.loadAddress(
        second, .memory(base: rsp, index: nil, scale: 0, displacement: Int32(3 * size)), size: size)
      code.store(second, .frame(FrameOffset.interruptFrame(\.rsp)))
      code.resolve(changesRing)
    }
    callLeaving(is64 ? translator.glue.interruptReturn64 : translator.glue.interruptReturn32)
    ended = true
    return true
  }

  /// RFLAGS, of which the arithmetic flags are in the frame, without RF and VM. Destroys RAX.
  mutating func loadFlagsImage(into register: Int) {
    code.instruction(.escape0f, 0xb6, reg: register, .frame(FrameOffset.flags), size: 4)
    code.instruction(.primary, 0xc1, reg: 4, .register(register), size: 4, immediate: 11, immediateSize: 1)
    code.instruction(.escape0f, 0xb6, reg: first, .frame(FrameOffset.flags + 1), size: 4)
    code.arithmetic(4, .register(first), immediate: 0xd5, size: 4)
    code.arithmetic(1, register, .register(first), size: 4)
    code.load(first, .frame(FrameOffset.cpu))
    code.load(first, state(StateOffset.rflags), size: 4)
    let kept = ~Int32(truncatingIfNeeded: RFLAGS.arithmetic | RFLAGS.rf | RFLAGS.vm)
    code.arithmetic(4, .register(first), immediate: kept, size: 4)
    code.arithmetic(1, register, .register(first), size: 4)
  }

  /// Loads CS, whose selector is in R11D, and SS with flat segments. The state's address is in RAX.
  private mutating func setSegments(code codeAttributes: UInt16, stackAfterCode: Int32, stack: UInt16, cpl: Int64) {
    for (number, attributes) in [(1, codeAttributes), (2, stack)] {
      let place = StateOffset.base(number)
      code.instruction(.primary, 0xc7, reg: 0, state(place), size: 8, immediate: 0, immediateSize: 4)
      code.instruction(.primary, 0xc7, reg: 0, state(place + 8), size: 4, immediate: -1, immediateSize: 4)
      code.store(second, state(StateOffset.selector(number)), size: 2)
      code.instruction(
        .primary, 0xc7, reg: 0, state(StateOffset.selector(number) + 2), size: 2, immediate: Int64(attributes),
        immediateSize: 2)
      code.arithmetic(0, .register(second), immediate: stackAfterCode, size: 4)
    }
    code.instruction(.primary, 0xc6, reg: 0, state(StateOffset.cpl), size: 1, immediate: cpl, immediateSize: 1)
  }

  /// Goes on in the block that was found, at the other privilege level. The state's address is in RAX.
  private mutating func enterOther(key: UInt64, distance: Int) {
    code.arithmetic(
      0, state(StateOffset.tlb), immediate: Int32(distance * MemoryLayout<TLBEntry>.stride), size: 8)
    code.instruction(
      .primary, 0xc7, reg: 0, state(StateOffset.blockKey), size: 8, immediate: Int64(key), immediateSize: 4)
    code.forgetExpectations()
    enterKept()
  }
}
