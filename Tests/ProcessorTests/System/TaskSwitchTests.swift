import CHost
import Testing
import X86

@testable import Processor

struct TaskSwitchTests {
  typealias Entry = TestProcessor.Entry
  typealias Layout = TestProcessor.Layout

  static let taskSelector = UInt16(Entry.otherTask * 8)

  /// A second task, ready to run: ring 0 unless told otherwise.
  static func prepare(_ test: TestProcessor, is16: Bool = false, isBusy: Bool = false) {
    let base = Layout.otherTSS
    test.setDescriptor(
      Entry.otherTask,
      TestProcessor.segment(
        base: base, limit: is16 ? 0x2b : 0x67, access: 0x80 | (is16 ? 1 : 9) | (isBusy ? 2 : 0), flags: 0))
    let data = UInt16(Entry.data32 * 8)
    let code = UInt16(Entry.code32 * 8)
    if is16 {
      test.store(0x5678 as UInt16, base + 0x0e)
      test.store(UInt16(RFLAGS.cf | RFLAGS.fixed), base + 0x10)
      for number in UInt64(0)..<8 { test.store(UInt16(0x7000 + number), base + 0x12 + 2 * number) }
      for (number, selector) in [data, code, data, data].enumerated() {
        test.store(selector, base + 0x22 + UInt64(2 * number))
      }
      test.store(0 as UInt16, base + 0x2a)
    } else {
      test.store(0 as UInt32, base + 0x1c)
      test.store(0x5678 as UInt32, base + 0x20)
      test.store(UInt32(RFLAGS.cf | RFLAGS.fixed), base + 0x24)
      for number in UInt64(0)..<8 { test.store(UInt32(0x7000 + number), base + 0x28 + 4 * number) }
      for (number, selector) in [data, code, data, data, 0, data].enumerated() {
        test.store(UInt32(selector), base + 0x48 + UInt64(4 * number))
      }
      test.store(UInt32(Entry.localTable * 8), base + 0x60)
      test.store(0 as UInt16, base + 0x64)
    }
  }

  static func isBusy(_ test: TestProcessor, _ index: Int) -> Bool { test.descriptor(index) >> 41 & 1 == 1 }

  @Test(arguments: [false, true])
  func jumpCallAndReturn(_ is16: Bool) {
    for isCall in [false, true] {
      let test = TestProcessor(.protected32)
      let cpu = test.cpu
      Self.prepare(test, is16: is16)
      cpu.pointee.gpr.0 = 0x1234_5678
      cpu.pointee.dr7 |= 0x3ff
      FarTransferTests.point(test, Self.taskSelector, 0xffff_ffff)
      #expect(test.execute(isCall ? FarTransferTests.call : FarTransferTests.jump) == nil)
      let upper: UInt64 = is16 ? 0xffff_0000 : 0
      #expect(cpu.pointee.rip == 0x5678)
      #expect(cpu.pointee.gpr.0 == upper | 0x7000 && cpu.pointee.gpr.4 == upper | 0x7004)
      #expect(cpu.pointee.tr.selector == Self.taskSelector && cpu.pointee.cr0 & CR0.ts != 0)
      #expect(cpu.pointee.rflags == RFLAGS.fixed | RFLAGS.cf | (isCall ? RFLAGS.nt : 0))
      #expect(cpu.pointee.dr7 & 0x3ff == 0x2aa, "local breakpoints are off")
      #expect(cpu.pointee.ldtr.selector == (is16 ? 0 : UInt16(Entry.localTable * 8)))
      #expect(cpu.pointee.segments.4.attributes == 0)
      #expect(Self.isBusy(test, Entry.otherTask) && Self.isBusy(test, Entry.task) == isCall)
      // What the old task will find.
      #expect(test.load(Layout.tss + 0x20, as: UInt32.self) == UInt32(Layout.code + 2))
      #expect(test.load(Layout.tss + 0x28, as: UInt32.self) == 0x1234_5678)
      #expect(test.load(Layout.tss + 0x4c, as: UInt32.self) == UInt32(Entry.code32 * 8))
      guard isCall else { continue }
      #expect(test.load(Layout.otherTSS, as: UInt16.self) == UInt16(Entry.task * 8))
      #expect(test.execute(0xcf) == nil)
      #expect(cpu.pointee.rip == Layout.code + 2 && cpu.pointee.gpr.0 == 0x1234_5678)
      #expect(cpu.pointee.tr.selector == UInt16(Entry.task * 8) && cpu.pointee.rflags & RFLAGS.nt == 0)
      #expect(!Self.isBusy(test, Entry.otherTask) && Self.isBusy(test, Entry.task))
      let flags = test.load(Layout.otherTSS + (is16 ? 0x10 : 0x24), as: UInt16.self)
      #expect(UInt64(flags) & RFLAGS.nt == 0, "saved without NT")
    }
  }

  @Test func throughTaskGates() {
    let test = TestProcessor(.protected32)
    Self.prepare(test)
    test.setDescriptor(Entry.scratch, TestProcessor.gate(Self.taskSelector, 0, access: 0xe5))
    FarTransferTests.point(test, UInt16(Entry.scratch * 8))
    #expect(test.execute(FarTransferTests.jump) == nil && test.cpu.pointee.rip == 0x5678)
    // An exception with an error code: it is on the new task's stack.
    let fault = TestProcessor(.protected32)
    Self.prepare(fault)
    fault.setGate(13, Self.taskSelector, access: 0x85)
    fault.processor.deliver(.generalProtection(0x4321))
    #expect(fault.cpu.pointee.rip == 0x5678 && fault.cpu.pointee.gpr.4 == 0x7000)
    #expect(fault.stack(0, size: 4) == 0x4321)
    #expect(fault.load(Layout.tss + 0x20, as: UInt32.self) == UInt32(Layout.code))
    #expect(UInt64(fault.load(Layout.tss + 0x24, as: UInt32.self)) & RFLAGS.rf != 0)
    #expect(fault.cpu.pointee.rflags & RFLAGS.nt != 0)
  }

  /// Checks before the switch: nothing has changed.
  @Test func earlyFaults() {
    let selector = UInt32(Self.taskSelector)
    let cases: [(access: UInt8, limit: UInt64, want: GuestFault)] = [
      (0x89, 0x66, .invalidTSS(selector)), (0x81, 0x2a, .invalidTSS(selector)),
      (0x8b, 0x67, .generalProtection(selector)), (0x09, 0x67, .segmentNotPresent(selector)),
    ]
    for entry in cases {
      let test = TestProcessor(.protected32)
      Self.prepare(test)
      test.setDescriptor(
        Entry.otherTask,
        TestProcessor.segment(base: Layout.otherTSS, limit: entry.limit, access: entry.access, flags: 0))
      FarTransferTests.point(test, Self.taskSelector)
      #expect(test.execute(FarTransferTests.call) == entry.want)
      #expect(test.cpu.pointee.tr.selector == UInt16(Entry.task * 8) && test.cpu.pointee.rip == Layout.code)
      #expect(Self.isBusy(test, Entry.task) && test.cpu.pointee.cr0 & CR0.ts == 0)
    }
    let user = TestProcessor(.protected32, ring: 3)
    Self.prepare(user)
    FarTransferTests.point(user, Self.taskSelector)
    #expect(user.execute(FarTransferTests.jump) == .generalProtection(selector))
    // IRET needs a busy task.
    let back = TestProcessor(.protected32)
    Self.prepare(back)
    back.cpu.pointee.rflags |= RFLAGS.nt
    back.store(Self.taskSelector, Layout.tss)
    #expect(back.execute(0xcf) == .invalidTSS(selector))
    back.store(0x4 as UInt16, Layout.tss)
    #expect(back.execute(0xcf) == .invalidTSS(4))
  }

  /// What is wrong with the new task's own state comes up in the new task.
  @Test func lateFaults() {
    typealias Outcome = LongModeDeliveryTests.Outcome
    let code = UInt32(Entry.code32 * 8)
    let cases: [(offset: UInt64, value: UInt32, vector: Int, error: UInt32)] = [
      (0x60, 0x7f8, 10, 0x7f8), (0x60, UInt32(Entry.data32 * 8), 10, UInt32(Entry.data32 * 8)),
      (0x4c, 0, 10, 0), (0x4c, code | 3, 10, code), (0x4c, UInt32(Entry.data32 * 8), 10, UInt32(Entry.data32 * 8)),
      (0x50, 0, 10, 0), (0x50, code, 10, code), (0x50, UInt32(Entry.data32 * 8) | 1, 10, UInt32(Entry.data32 * 8)),
      (0x54, 0x7f8, 10, 0x7f8), (0x48, UInt32(Entry.scratch * 8), 11, UInt32(Entry.scratch * 8)),
      (0x50, UInt32(Entry.scratch * 8), 12, UInt32(Entry.scratch * 8)),
    ]
    for (number, entry) in cases.enumerated() {
      let test = TestProcessor(.protected32)
      Self.prepare(test)
      test.setDescriptor(Entry.scratch, TestProcessor.segment(access: 0x13))
      test.store(entry.value, Layout.otherTSS + entry.offset)
      // Whatever the new task's CS and SS are like, this handler runs: it is a task of its own.
      let third = Layout.otherTSS + 0x200
      for offset in UInt64(0)..<0x68 { test.store(test.load(Layout.otherTSS + offset, as: UInt8.self), third + offset) }
      for (offset, value) in [
        (UInt64(0x4c), code), (0x48, 0), (0x50, UInt32(Entry.data32 * 8)), (0x54, 0), (0x60, 0), (0x20, 0x9999),
      ] {
        test.store(value, third + offset)
      }
      test.setTask(Entry.scratch2, third, limit: 0x67)
      test.setGate(entry.vector, UInt16(Entry.scratch2 * 8), access: 0x85)
      FarTransferTests.point(test, Self.taskSelector)
      #expect(test.execute(FarTransferTests.jump) == nil)
      #expect(test.cpu.pointee.rip == 0x9999, "case \(number)")
      #expect(test.stack(0, size: 4) == UInt64(entry.error), "case \(number)")
      #expect(test.load(third, as: UInt16.self) == Self.taskSelector, "raised in the new task")
      #expect(test.load(Layout.otherTSS + 0x20, as: UInt32.self) == 0x5678)
    }
  }

  @Test func toVirtual8086() {
    let test = TestProcessor(.protected32)
    Self.prepare(test)
    test.store(UInt32(RFLAGS.vm | RFLAGS.fixed), Layout.otherTSS + 0x24)
    test.store(0x1234 as UInt32, Layout.otherTSS + 0x4c)
    FarTransferTests.point(test, Self.taskSelector)
    #expect(test.execute(FarTransferTests.jump) == nil)
    #expect(test.processor.isVirtual8086 && test.cpu.pointee.cpl == 3)
    #expect(test.cpu.pointee.segments.1.base == 0x12340 && test.cpu.pointee.segments.1.limit == 0xffff)
  }

  @Test func trapBit() {
    let test = TestProcessor(.protected32)
    Self.prepare(test)
    test.store(1 as UInt16, Layout.otherTSS + 0x64)
    FarTransferTests.point(test, Self.taskSelector)
    #expect(test.execute(FarTransferTests.jump) == nil)
    #expect(test.cpu.pointee.pendingDebug == DebugStatus.taskSwitch)
    #expect(test.processor.deliverPendingEvents() == .runFreely)
    #expect(test.handledVector == 1 && test.cpu.pointee.dr6 == DebugStatus.fixed | 0x8000)
    #expect(test.stack(0, size: 4) == 0x5678)
  }

  /// What comes through a task gate with that bit set: the trap is before the first instruction, not behind it.
  @Test(arguments: [true, false])
  func trapBitOfAnEventsTask(isNMI: Bool) {
    let test = TestProcessor(.protected32)
    Self.prepare(test)
    test.store(1 as UInt16, Layout.otherTSS + 0x64)
    test.setGate(isNMI ? 2 : 0x30, Self.taskSelector, access: 0x85)
    test.cpu.pointee.rflags |= RFLAGS.if
    if isNMI {
      test.cpu.pointee.nmiPending = 1
    } else {
      test.cpu.pointee.interruptPending = 1
      test.cpu.pointee.interruptVector = 0x30
    }
    #expect(test.processor.deliverPendingEvents() == .trapsAtOnce && test.cpu.pointee.rip == 0x5678)
    #expect(test.processor.deliverPendingEvents() == .runFreely)
    #expect(test.handledVector == 1 && test.stack(0, size: 4) == 0x5678)
  }
}
