import CHost
import Machine
import Testing
import X86

@testable import Processor

/// Events between instructions: priorities, shadows, NMI blocking, single steps and breakpoints.
struct PendingEventTests {
  typealias Layout = TestProcessor.Layout

  static func prepare(interrupt: UInt8? = nil, nmi: Bool = false, debug: UInt32 = 0, masked: Bool = false)
    -> TestProcessor
  {
    let test = TestProcessor(.long64)
    if let interrupt {
      test.cpu.pointee.interruptPending = 1
      test.cpu.pointee.interruptVector = interrupt
    }
    test.cpu.pointee.nmiPending = nmi ? 1 : 0
    test.cpu.pointee.pendingDebug = debug
    if !masked { test.cpu.pointee.rflags |= RFLAGS.if }
    return test
  }

  @Test func priorities() {
    // All three: the debug trap's handler is entered first, so NMI interrupts it at once; IF is clear for the third.
    let test = Self.prepare(interrupt: 0x30, nmi: true, debug: DebugStatus.singleStep)
    #expect(test.processor.deliverPendingEvents() == .runFreely)
    #expect(test.handledVector == 2 && test.stack(0) == Layout.handler + 1)
    #expect(test.cpu.pointee.nmiBlocked == 1 && test.cpu.pointee.nmiPending == 0)
    #expect(test.cpu.pointee.pendingDebug == 0 && test.cpu.pointee.interruptPending == 1)
    #expect(test.cpu.pointee.dr6 == DebugStatus.fixed | 0x4000)
    // A second NMI waits for IRET.
    test.cpu.pointee.nmiPending = 1
    #expect(test.processor.deliverPendingEvents() == .runFreely && test.handledVector == 2)
    #expect(test.execute(InterruptReturnTests.iretq) == nil && test.lastFlow == .branchAndSerialize)
    #expect(test.processor.deliverPendingEvents() == .runFreely && test.cpu.pointee.nmiPending == 0)
    #expect(test.handledVector == 2 && test.stack(0) == Layout.handler + 1)
    // Back to the interrupted program, where the interrupt is due.
    #expect(test.execute(InterruptReturnTests.iretq) == nil && test.execute(InterruptReturnTests.iretq) == nil)
    #expect(test.cpu.pointee.rip == Layout.code && test.lastFlow == .branchAndSerialize)
    #expect(test.processor.deliverPendingEvents() == .runFreely && test.handledVector == 0x30)
    #expect(test.cpu.pointee.interruptPending == 0)
  }

  @Test func maskedInterruptsWait() {
    let test = Self.prepare(interrupt: 0x30, masked: true)
    #expect(test.processor.deliverPendingEvents() == .runFreely && test.cpu.pointee.rip == Layout.code)
    #expect(!test.processor.canTakeInterrupt)
    // STI lets it in after the next instruction.
    #expect(test.execute(0xfb) == nil && test.lastFlow == .serialize)
    #expect(!test.processor.canTakeInterrupt)
    #expect(test.processor.deliverPendingEvents() == .runOneInstruction)
    #expect(test.execute(0x90) == nil)
    #expect(test.processor.deliverPendingEvents() == .runFreely && test.handledVector == 0x30)
    #expect(test.stack(0) == Layout.code + 2)
  }

  @Test func shadowsPass() {
    let test = Self.prepare(masked: true)
    #expect(test.execute(0xfb) == nil && test.lastFlow == .next)
    #expect(test.processor.shadow == .STI)
    #expect(test.execute(0x90) == nil && test.processor.canTakeInterrupt)
    #expect(test.cpu.pointee.interruptShadow == [])
    // STI with IF set casts none.
    #expect(test.execute(0xfb) == nil && test.processor.canTakeInterrupt)
    // A loop of one instruction behind STI must not stay in the shadow.
    let loop = Self.prepare(interrupt: 0x30, masked: true)
    #expect(loop.execute(0xfb) == nil)
    #expect(loop.processor.deliverPendingEvents() == .runOneInstruction)
    #expect(loop.processor.deliverPendingEvents() == .runFreely && loop.handledVector == 0x30)
  }

  @Test func stackSegmentShadow() {
    // MOV SS holds back even NMI and debug traps.
    let test = Self.prepare(interrupt: 0x30, nmi: true)
    test.cpu.pointee.gpr.0 = UInt64(test.cpu.pointee.segments.2.selector)
    #expect(test.execute(0x8e, 0xd0) == nil && test.lastFlow == .serialize)
    test.cpu.pointee.pendingDebug = DebugStatus.singleStep
    #expect(test.processor.deliverPendingEvents() == .runOneInstruction && test.cpu.pointee.rip == Layout.code + 2)
    #expect(test.execute(0x90) == nil)
    #expect(test.processor.deliverPendingEvents() == .runFreely && test.handledVector == 2)
  }

  @Test func halt() {
    let test = Self.prepare(masked: true)
    #expect(test.execute(0xf4) == nil)
    #expect(test.processor.deliverPendingEvents() == .stayInactive)
    test.cpu.pointee.interruptPending = 1
    #expect(test.processor.deliverPendingEvents() == .stayInactive, "masked")
    test.cpu.pointee.nmiPending = 1
    #expect(test.processor.deliverPendingEvents() == .runFreely && test.handledVector == 2)
    #expect(test.stack(0) == Layout.code + 1 && test.cpu.pointee.activity == .running)
    let waiting = Self.prepare(nmi: true)
    waiting.cpu.pointee.activity = .waitForSIPI
    #expect(waiting.processor.deliverPendingEvents() == .stayInactive && waiting.cpu.pointee.nmiPending == 1)
  }

  /// An instruction that waits for the answer to a read has begun: nothing comes between.
  @Test func answeredInstructionsComeFirst() {
    let test = Self.prepare(interrupt: 0x30)
    test.processor.replay.append(ExitCompletion(data: 0x5a, isValid: 1, isRefused: 0, reserved: (0, 0, 0, 0, 0, 0)))
    #expect(test.processor.deliverPendingEvents() == .runOneInstruction)
    #expect(test.execute(0xe4, 0x60) == nil && test.cpu.pointee.gpr.0 & 0xff == 0x5a)
    #expect(test.processor.deliverPendingEvents() == .runFreely && test.handledVector == 0x30)
  }

  // MARK: Debugging

  @Test func singleSteps() {
    let test = TestProcessor(.long64)
    test.cpu.pointee.rflags |= RFLAGS.tf
    test.processor.modeChanged()
    func step(_ code: UInt8...) -> GuestFault? {
      #expect(test.processor.beginStep() == nil)
      let fault = test.execute(code)
      if fault == nil { test.processor.endStep() }
      return fault
    }
    #expect(step(0x90) == nil && test.cpu.pointee.pendingDebug == DebugStatus.singleStep)
    test.cpu.pointee.pendingDebug = 0
    // What faults does not trap; what is delivered takes the trap with it.
    #expect(step(0x0f, 0x0b) == .invalidOpcode && test.cpu.pointee.pendingDebug == 0)
    test.setGate(0x80, 0x50, Layout.handler + 0x80)
    #expect(step(0xcd, 0x80) == nil && test.cpu.pointee.pendingDebug == 0 && test.handledVector == 0x80)
    // SYSCALL traps by the flags that it leaves.
    for masks in [false, true] {
      let call = SystemCallTests.prepare(.long64, ring: 3)
      call.cpu.pointee.rflags |= RFLAGS.tf
      call.cpu.pointee.fmask = masks ? RFLAGS.tf : 0
      #expect(call.processor.beginStep() == nil && call.execute(SystemCallTests.syscall) == nil)
      call.processor.endStep()
      #expect(call.cpu.pointee.pendingDebug == (masks ? 0 : DebugStatus.singleStep))
    }
    // Only branches under BTF.
    let branches = TestProcessor(.long64)
    branches.cpu.pointee.rflags |= RFLAGS.tf
    branches.cpu.pointee.debugControl = 2
    #expect(branches.processor.beginStep() == nil && branches.execute(0x90) == nil)
    branches.processor.endStep()
    #expect(branches.cpu.pointee.pendingDebug == 0)
    #expect(branches.processor.beginStep() == nil && branches.execute(0xeb, 0x70) == nil)
    branches.processor.endStep()
    #expect(branches.cpu.pointee.pendingDebug == DebugStatus.singleStep)
    #expect(branches.processor.deliverPendingEvents() == .runFreely && branches.cpu.pointee.debugControl == 0)
  }

  /// MOV SS does not trap itself; what waits behind it is delivered by a debug exception that comes first, once.
  @Test func stackSegmentAndDebugExceptions() {
    func afterMove(stepping: Bool) -> TestProcessor {
      let test = TestProcessor(.long64)
      if stepping { test.cpu.pointee.rflags |= RFLAGS.tf }
      test.cpu.pointee.gpr.0 = UInt64(test.cpu.pointee.segments.2.selector)
      #expect(test.processor.beginStep() == nil && test.execute(0x8e, 0xd0) == nil)
      test.processor.endStep()
      return test
    }
    let stepped = afterMove(stepping: true)
    #expect(stepped.cpu.pointee.pendingDebug == 0)
    #expect(stepped.processor.deliverPendingEvents() == .runFreely && stepped.processor.beginStep() == nil)
    #expect(stepped.execute(0x90) == nil)
    stepped.processor.endStep()
    #expect(stepped.cpu.pointee.pendingDebug == DebugStatus.singleStep)
    // INT1 and general detect, with a data breakpoint of MOV SS behind them.
    for isINT1 in [false, true] {
      let test = afterMove(stepping: true)
      test.cpu.pointee.pendingDebug = 2
      test.cpu.pointee.dr7 |= DebugControl.generalDetect
      #expect(test.processor.deliverPendingEvents() == .runOneInstruction && test.processor.beginStep() == nil)
      if isINT1 { test.run(0xf1) } else { test.run(0x0f, 0x21, 0xf0) }
      #expect(test.handledVector == 1 && test.cpu.pointee.pendingDebug == 0)
      #expect(test.cpu.pointee.dr6 == DebugStatus.fixed | 2 | (isINT1 ? 0 : 0x2000))
    }
    // An instruction breakpoint behind it is held back, also if something else waits.
    for waits in [false, true] {
      let test = afterMove(stepping: false)
      test.cpu.pointee.dr.0 = Layout.code + 2
      test.cpu.pointee.dr7 |= 1
      test.cpu.pointee.pendingDebug = waits ? 2 : 0
      #expect(test.processor.deliverPendingEvents() == (waits ? .runOneInstruction : .runFreely))
      #expect(test.processor.beginStep() == nil && test.cpu.pointee.rflags & RFLAGS.rf == 0)
    }
    // Vector 1 from an interrupt controller is no debug exception.
    let interrupted = Self.prepare(interrupt: 1)
    interrupted.cpu.pointee.dr7 |= DebugControl.generalDetect
    #expect(interrupted.processor.deliverPendingEvents() == .runFreely && interrupted.handledVector == 1)
    #expect(interrupted.cpu.pointee.dr7 & DebugControl.generalDetect != 0)
  }

  @Test func instructionBreakpoints() {
    let test = TestProcessor(.long64)
    test.cpu.pointee.dr.2 = Layout.code
    test.cpu.pointee.dr7 = 0x410
    test.processor.modeChanged()
    #expect(test.processor.beginStep() == .debug(4))
    test.processor.deliver(.debug(4))
    #expect(test.handledVector == 1 && test.stack(0) == Layout.code && test.stack(2) & RFLAGS.rf == 0)
    #expect(test.cpu.pointee.dr6 == DebugStatus.fixed | 4)
    // The handler sets RF in the image; IRET brings it back, and it holds for one instruction.
    test.store(test.stack(2) | RFLAGS.rf, test.cpu.pointee.gpr.4 + 16)
    #expect(test.execute(InterruptReturnTests.iretq) == nil && test.cpu.pointee.rflags & RFLAGS.rf != 0)
    #expect(test.processor.beginStep() == nil && test.execute(0x90) == nil)
    #expect(test.cpu.pointee.rflags & RFLAGS.rf == 0)
    // Disabled, of another kind, elsewhere.
    for (dr7, address) in [(UInt64(0x400), Layout.code), (0x0300_0410, Layout.code), (0x410, Layout.code + 1)] {
      let other = TestProcessor(.long64)
      other.cpu.pointee.dr7 = dr7
      other.cpu.pointee.dr.2 = address
      #expect(other.processor.beginStep() == nil)
    }
  }

  @Test func dataBreakpoints() {
    // R/W and length fields, access, whether it hits.
    let base = Layout.data
    let cases: [(rw: UInt64, len: UInt64, offset: UInt64, size: Int, isWrite: Bool, hits: Bool)] = [
      (1, 0, 0, 1, true, true), (1, 0, 0, 1, false, false), (3, 0, 0, 1, false, true), (0, 0, 0, 1, true, false),
      (1, 3, 3, 1, true, true), (1, 3, 4, 1, true, false), (1, 2, 7, 1, true, true), (1, 1, 1, 1, true, true),
      (1, 0, 0, 8, true, true), (1, 0, 1, 8, true, false),
    ]
    for (number, entry) in cases.enumerated() {
      let test = TestProcessor(.long64)
      let cpu = test.cpu
      // A translation from before must not hide the breakpoint.
      #expect((try? test.processor.store(0 as UInt8, at: base)) != nil)
      cpu.pointee.dr.1 = base
      cpu.pointee.gpr.0 = entry.rw << 20 | entry.len << 22 | 8
      #expect(test.execute(0x0f, 0x23, 0xf8) == nil && test.lastFlow == .branch)
      #expect(test.processor.beginStep() == nil)
      let address = base + entry.offset
      switch (entry.size, entry.isWrite) {
      case (1, true): #expect((try? test.processor.store(1 as UInt8, at: address)) != nil)
      case (1, false): #expect((try? test.processor.load(address, as: UInt8.self)) != nil)
      default: #expect((try? test.processor.store(1 as UInt64, at: address)) != nil)
      }
      test.processor.endStep()
      #expect(cpu.pointee.pendingDebug == (entry.hits ? 2 : 0), "case \(number)")
    }
  }

  @Test func debugRegisters() {
    let test = TestProcessor(.long64)
    let cpu = test.cpu
    cpu.pointee.gpr.0 = ~0
    #expect(test.execute(0x0f, 0x23, 0xf8) == .generalProtection(), "DR7 has 32 bits")
    #expect(test.execute(0x0f, 0x23, 0xf0) == .generalProtection(), "DR6 too")
    cpu.pointee.gpr.0 = 0xffff_ffff & ~(1 << 13)
    #expect(test.execute(0x0f, 0x23, 0xf8) == nil && cpu.pointee.dr7 == 0xffff_07ff)
    cpu.pointee.gpr.0 = 0
    #expect(test.execute(0x0f, 0x23, 0xf0) == nil && cpu.pointee.dr6 == DebugStatus.fixed)
    cpu.pointee.gpr.0 = 0xffff_ffff
    #expect(test.execute(0x0f, 0x23, 0xe0) == nil && cpu.pointee.dr6 == 0xffff_efff, "DR4 is DR6")
    cpu.pointee.cr4 |= CR4.de
    #expect(test.execute(0x0f, 0x23, 0xe0) == .invalidOpcode)
    // General detect: the access faults, and the handler is free of it.
    cpu.pointee.dr7 |= DebugControl.generalDetect
    #expect(test.execute(0x0f, 0x21, 0xc0) == .debug(DebugStatus.accessDetected))
    cpu.pointee.dr6 = DebugStatus.fixed
    test.processor.deliver(.debug(DebugStatus.accessDetected))
    #expect(cpu.pointee.dr6 == DebugStatus.fixed | 0x2000 && cpu.pointee.dr7 & DebugControl.generalDetect == 0)
    #expect(test.stack(2) & RFLAGS.rf != 0)
    #expect(TestProcessor(.long64, ring: 3).execute(0x0f, 0x21, 0xc0) == .generalProtection())
  }
}
