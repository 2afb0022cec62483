import CHost
import X86

/// IRETQ at CPL 0 to 64-bit code at CPL 0 or 3, and IRETD of the legacy modes where segments are flat before and after,
/// without leaving translated code.
///
/// What it loads into CS and SS is mostly what it loaded the last time. The frame keeps that, by ring, with the descriptors
/// that it came from (`KnownReturn`). Descriptors are read again each time; while they are the same, so is what comes of
/// them, and no check of them needs to be repeated. All else that can go wrong is found out first; then the chain does the
/// whole of it.
extension Translator {
  /// Emits what is called with RSP, RFLAGS, CS and RIP in the frame, and SS where it is popped. An exit record follows the
  /// five bytes behind the call. Returns its position.
  func emitInterruptReturn(_ code: inout HostAssembler, is64: Bool) -> Int {
    let (rax, rcx, rdx, r11) = (HostRegister.rax, HostRegister.rcx, HostRegister.rdx, HostRegister.r11)
    func state(_ offset: Int) -> HostOperand { .memory(base: rax, index: nil, scale: 0, displacement: Int32(offset)) }
    func known(_ offset: Int) -> HostOperand { .memory(base: rcx, index: nil, scale: 0, displacement: Int32(offset)) }
    var misses: [HostAssembler.Fixup] = []
    func leave(_ code: inout HostAssembler, if condition: UInt8) { misses.append(code.jump(if: condition)) }
    func test(_ code: inout HostAssembler, _ operand: HostOperand, _ bits: UInt64) {
      code.instruction(.primary, 0xf7, reg: 0, operand, size: 4, immediate: Int64(bits), immediateSize: 4)
    }

    let start = code.position
    code.push(rcx)
    code.push(rdx)
    code.load(rax, .frame(FrameOffset.cpu))
    test(&code, state(StateOffset.rflags), RFLAGS.nt | RFLAGS.ac)
    leave(&code, if: HostCondition.notZero)
    test(
      &code, .frame(FrameOffset.interruptFrame(\.rflags)), RFLAGS.tf | RFLAGS.ac | (is64 ? 0 : RFLAGS.vm))
    leave(&code, if: HostCondition.notZero)
    if !is64 {
      // Compatibility mode goes by other rules.
      test(&code, state(StateOffset.efer), EFER.lma)
      leave(&code, if: HostCondition.notZero)
    }
    code.testWaitingEvents(r11)
    leave(&code, if: HostCondition.notZero)

    // What is known of this ring, in RCX.
    code.loadAddress(rcx, .frame(FrameOffset.knownReturn(Self.knownReturn(ring: 0, is64: is64))))
    code.loadAddress(rdx, .frame(FrameOffset.knownReturn(Self.knownReturn(ring: 3, is64: is64))))
    test(&code, .frame(FrameOffset.interruptFrame(\.cs)), 3)
    code.instruction(.escape0f, 0x40 | HostCondition.notZero, reg: rcx, .register(rdx), size: 8)
    // SS is popped by IRETQ, and on the way to another ring.
    var keepsStack: HostAssembler.Fixup?
    for (selector, expected, descriptor) in [
      (FrameOffset.interruptFrame(\.cs), KnownReturnOffset.codeSelector, KnownReturnOffset.codeDescriptor),
      (FrameOffset.interruptFrame(\.ss), KnownReturnOffset.stackSelector, KnownReturnOffset.stackDescriptor),
    ] {
      if !is64, descriptor == KnownReturnOffset.stackDescriptor {
        test(&code, known(KnownReturnOffset.codeSelector), 3)
        keepsStack = code.jump(if: HostCondition.zero)
      }
      code.instruction(.escape0f, 0xb7, reg: r11, .frame(selector), size: 4)
      code.arithmetic(7, r11, known(expected))
      leave(&code, if: HostCondition.notZero)
      test(&code, .register(r11), 0xfffc)
      let isNull = code.jump(if: HostCondition.zero)
      // The descriptor must be within GDT, and on one page that the TLB has.
      code.arithmetic(4, .register(r11), immediate: 0xfff8, size: 4)
      code.loadAddress(rdx, .memory(base: r11, index: nil, scale: 0, displacement: 7), size: 4)
      code.arithmetic(7, rdx, state(StateOffset.gdtrLimit), size: 4)
      leave(&code, if: HostCondition.above)
      code.arithmetic(0, r11, state(StateOffset.gdtrBase))
      code.move(rdx, r11)
      Self.emitEntryPlace(&code, of: r11, in: rdx)
      code.arithmetic(0, rdx, state(StateOffset.tlb))
      code.arithmetic(5, r11, .memory(base: rdx, index: nil, scale: 0, displacement: Int32(TLBOffset.readTag)))
      code.arithmetic(7, .register(r11), immediate: 4096 - 8)
      leave(&code, if: HostCondition.above)
      code.arithmetic(0, r11, .memory(base: rdx, index: nil, scale: 0, displacement: Int32(TLBOffset.host)))
      code.load(r11, .memory(base: r11, index: nil, scale: 0, displacement: 0))
      code.arithmetic(7, r11, known(descriptor))
      leave(&code, if: HostCondition.notZero)
      code.resolve(isNull)
    }
    if let keepsStack { code.resolve(keepsStack) }

    // The mode of the code there in RDX; to an outer ring, other slots and what the segments have to be.
    code.load(rdx, state(StateOffset.blockKey))
    test(&code, known(KnownReturnOffset.codeSelector), 3)
    let isSameRing = code.jump(if: HostCondition.zero)
    code.arithmetic(1, .register(rdx), immediate: Int32(CodeMode.unprivileged.rawValue))
    for segment in [SegmentRegister.es, .ds, .fs, .gs] {
      // One that is present and of an inner ring is taken away; so is what is not 0 of a null selector.
      code.instruction(.escape0f, 0xb7, reg: r11, state(StateOffset.selector(segment.rawValue)), size: 4)
      code.arithmetic(5, .register(r11), immediate: 1, size: 4)
      code.arithmetic(7, .register(r11), immediate: 3, size: 4)
      leave(&code, if: HostCondition.below)
      code.instruction(.escape0f, 0xb7, reg: r11, state(StateOffset.selector(segment.rawValue) + 2), size: 4)
      code.arithmetic(4, .register(r11), immediate: 0xe0, size: 4)
      code.arithmetic(5, .register(r11), immediate: 0x80, size: 4)
      code.arithmetic(7, .register(r11), immediate: 0x60, size: 4)
      leave(&code, if: HostCondition.below)
    }
    misses += code.checkSlots(1, distance: TranslationCache.distanceToUser, using: r11)
    code.resolve(isSameRing)

    // The block there.
    code.store(rdx, .frame(FrameOffset.scratch))
    code.load(r11, .frame(FrameOffset.interruptFrame(\.rip)))
    misses += code.findBlock(rdx, at: r11)
    code.store(rdx, .frame(FrameOffset.target))
    code.load(rdx, .memory(base: rdx, index: nil, scale: 0, displacement: Int32(BlockOffset.key)))
    code.arithmetic(7, rdx, .frame(FrameOffset.scratch))
    leave(&code, if: HostCondition.notZero)

    // Nothing can go wrong any more.
    code.store(rdx, state(StateOffset.blockKey))
    code.arithmetic(4, .register(r11), immediate: -4096)
    code.store(r11, .frame(FrameOffset.codePage))
    code.load(rdx, .frame(FrameOffset.interruptFrame(\.rflags)), size: 4)
    code.arithmetic(4, .register(rdx), immediate: Int32(RFLAGS.loadable & ~(RFLAGS.rf | RFLAGS.vm)), size: 4)
    code.setFlags(from: rdx)
    func load(_ segment: SegmentRegister, from place: Int, _ code: inout HostAssembler) {
      for half in [0, 8] {
        code.load(r11, known(place + half))
        code.store(r11, state(StateOffset.base(segment.rawValue) + half))
      }
    }
    load(.cs, from: KnownReturnOffset.code, &code)
    if is64 { load(.ss, from: KnownReturnOffset.stack, &code) }
    code.instruction(.primary, 0xc6, reg: 0, state(StateOffset.nmiBlocked), size: 1, immediate: 0, immediateSize: 1)
    test(&code, known(KnownReturnOffset.codeSelector), 3)
    let staysInRing = code.jump(if: HostCondition.zero)
    if !is64 { load(.ss, from: KnownReturnOffset.stack, &code) }
    code.instruction(.primary, 0xc6, reg: 0, state(StateOffset.cpl), size: 1, immediate: 3, immediateSize: 1)
    let distance = TranslationCache.distanceToUser * MemoryLayout<TLBEntry>.stride
    code.arithmetic(0, state(StateOffset.tlb), immediate: Int32(distance), size: 8)
    code.resolve(staysInRing)
    code.pop(rdx)
    code.pop(rcx)
    code.load(
      GuestRegisters.host(GuestRegisters.rsp).unsafelyUnwrapped, .frame(FrameOffset.interruptFrame(\.rsp)))
    code.forgetExpectations()
    code.load(r11, .frame(FrameOffset.target))
    code.jump(.memory(base: r11, index: nil, scale: 0, displacement: Int32(BlockOffset.entry)))

    for miss in misses { code.resolve(miss) }
    code.pop(rdx)
    code.pop(rcx)
    emitLeaveBehindCall(&code)
    return start
  }

  /// The number of what is known of one kind of return.
  private static func knownReturn(ring: UInt16, is64: Bool) -> Int { (is64 ? 0 : 2) + (ring == 0 ? 0 : 1) }

  /// Remembers what IRET has loaded on its way to CPL 0 or 3. Nil is the stack's descriptor where SS is null, or was not
  /// popped.
  func noteReturn(
    _ code: Descriptor, _ codeSegment: SegmentState, _ stack: Descriptor?, _ stackSegment: SegmentState, is64: Bool
  ) {
    let ring = codeSegment.selector & 3
    // Of LDT nothing is kept.
    guard ring == 0 || ring == 3, (codeSegment.selector | stackSegment.selector) & 4 == 0 else { return }
    let known = KnownReturn(
      codeSelector: UInt64(codeSegment.selector), stackSelector: UInt64(stackSegment.selector),
      codeDescriptor: code.rawWhenAccessed, stackDescriptor: stack?.rawWhenAccessed ?? 0, code: codeSegment,
      stack: stackSegment)
    withUnsafeMutablePointer(to: &frame.pointee.knownReturns) { all in
      all.withMemoryRebound(to: KnownReturn.self, capacity: Int(KnownReturnCount)) {
        $0[Self.knownReturn(ring: ring, is64: is64)] = known
      }
    }
  }
}

/// Byte offsets in `KnownReturn`.
enum KnownReturnOffset {
  static let codeSelector = MemoryLayout<KnownReturn>.offset(of: \.codeSelector)!
  static let stackSelector = MemoryLayout<KnownReturn>.offset(of: \.stackSelector)!
  static let codeDescriptor = MemoryLayout<KnownReturn>.offset(of: \.codeDescriptor)!
  static let stackDescriptor = MemoryLayout<KnownReturn>.offset(of: \.stackDescriptor)!
  static let code = MemoryLayout<KnownReturn>.offset(of: \.code)!
  static let stack = MemoryLayout<KnownReturn>.offset(of: \.stack)!
}
