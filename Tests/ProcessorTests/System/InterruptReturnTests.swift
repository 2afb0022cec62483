import CHost
import Testing
import X86

@testable import Processor

struct InterruptReturnTests {
  typealias Entry = TestProcessor.Entry
  typealias Layout = TestProcessor.Layout

  /// Puts a frame at the stack pointer.
  static func frame(_ test: TestProcessor, _ values: [UInt64], size: Int = 8) {
    for (number, value) in values.enumerated() {
      let address = test.cpu.pointee.gpr.4 + UInt64(number * size)
      switch size {
      case 2: test.store(UInt16(truncatingIfNeeded: value), address)
      case 4: test.store(UInt32(truncatingIfNeeded: value), address)
      default: test.store(value, address)
      }
    }
  }

  static let iretq: [UInt8] = [0x48, 0xcf]

  @Test func toUserAndBack() {
    let test = TestProcessor(.long64)
    let cpu = test.cpu
    cpu.pointee.segments.5.base = 0x1234_5678_9abc
    cpu.pointee.segments.5.selector = 3
    cpu.pointee.segments.5.attributes = 0
    let (cs, ss) = (UInt64(Entry.code64 * 8 + 6 * 8 + 3), UInt64(Entry.data32 * 8 + 6 * 8 + 3))
    Self.frame(test, [0x7fff_1234, cs, 0x3c_7fd7 | RFLAGS.rf, 0x7777, ss])
    cpu.pointee.nmiBlocked = 1
    #expect(test.execute(Self.iretq) == nil)
    #expect(cpu.pointee.rip == 0x7fff_1234 && cpu.pointee.gpr.4 == 0x7777 && cpu.pointee.cpl == 3)
    #expect(UInt64(cpu.pointee.segments.1.selector) == cs && UInt64(cpu.pointee.segments.2.selector) == ss)
    #expect(cpu.pointee.rflags == 0x3c_7fd7 | RFLAGS.fixed, "RF is dropped without breakpoints")
    #expect(cpu.pointee.nmiBlocked == 0)
    #expect(cpu.pointee.segments.5.base == 0x1234_5678_9abc, "a null GS keeps its base")
    #expect(cpu.pointee.segments.5.selector == 0, "of null selectors 0 remains")
    #expect(cpu.pointee.segments.3.attributes == 0, "ring 0's DS is gone")
    #expect(test.processor.codeMode.contains(.unprivileged))
  }

  @Test func flagsByRing() {
    for (cpl, iopl) in [(0, 0), (3, 0), (3, 3), (1, 1), (2, 1)] as [(Int, UInt64)] {
      let test = TestProcessor(.long64, ring: cpl)
      let cpu = test.cpu
      cpu.pointee.rflags = RFLAGS.fixed | iopl << 12
      let all = RFLAGS.loadable & ~RFLAGS.vm & ~RFLAGS.nt & ~RFLAGS.rf
      Self.frame(
        test,
        [1, UInt64(cpu.pointee.segments.1.selector), all, 2, UInt64(cpu.pointee.segments.2.selector)])
      #expect(test.execute(Self.iretq) == nil)
      var want = all
      if cpl != 0 { want &= ~(RFLAGS.iopl | RFLAGS.vif | RFLAGS.vip) | iopl << 12 }
      if UInt64(cpl) > iopl { want &= ~RFLAGS.if }
      #expect(cpu.pointee.rflags == want | RFLAGS.fixed | (cpl != 0 ? iopl << 12 : 0), "cpl \(cpl) iopl \(iopl)")
    }
  }

  @Test func checksInLongMode() {
    let code0 = UInt64(Entry.code64 * 8)
    let code3 = UInt64((Entry.code64 + 6) * 8 + 3)
    let data0 = UInt64(Entry.data32 * 8)
    let data3 = UInt64((Entry.data32 + 6) * 8 + 3)
    let bad: UInt64 = 0x8000_0000_0000_0000
    let cases: [(frame: [UInt64], want: GuestFault?)] = [
      ([1, code0, 2, 4, data0], nil), ([1, code3, 2, 4, data3], nil), ([1, code0, 2, 4, 0], nil),
      ([1, 0, 2, 4, data0], .generalProtection()), ([1, 3, 2, 4, data0], .generalProtection()),
      ([1, 0x800, 2, 4, data0], .generalProtection(0x800)),
      ([1, data0, 2, 4, data0], .generalProtection(UInt32(data0))),
      // RPL and DPL differ.
      ([1, code0 | 3, 2, 4, data3], .generalProtection(UInt32(code0))),
      ([1, code3 & ~3, 2, 4, data0], .generalProtection(UInt32(code3 & ~3))),
      // Stacks: null for ring 3, of another ring, not data.
      ([1, code3, 2, 4, 0], .generalProtection()), ([1, code3, 2, 4, 3], .generalProtection()),
      ([1, code3, 2, 4, data0], .generalProtection(UInt32(data0))),
      ([1, code3, 2, 4, code3], .generalProtection(UInt32(code3 & ~3))),
      ([1, code0, 2, 4, 1], .generalProtection()),
      ([bad, code0, 2, 4, data0], .generalProtection()),
      // Conforming code keeps the ring; compatibility mode needs a real stack.
      ([1, UInt64(Entry.conforming64 * 8), 2, 4, data0], nil),
      ([1, UInt64(Entry.code32 * 8), 2, 4, data0], nil),
      ([1, UInt64(Entry.code32 * 8), 2, 4, 0], .generalProtection()),
    ]
    for (number, entry) in cases.enumerated() {
      let test = TestProcessor(.long64)
      Self.frame(test, entry.frame)
      #expect(test.execute(Self.iretq) == entry.want, "case \(number)")
      if entry.want != nil {
        #expect(test.cpu.pointee.rip == Layout.code && test.cpu.pointee.gpr.4 == Layout.stack)
        #expect(test.cpu.pointee.cpl == 0)
      }
    }
    // From ring 3 no inner ring can be reached.
    let user = TestProcessor(.long64, ring: 3)
    Self.frame(user, [1, code0, 2, 4, data0])
    #expect(user.execute(Self.iretq) == .generalProtection(UInt32(code0)))
    let nested = TestProcessor(.long64)
    nested.cpu.pointee.rflags |= RFLAGS.nt
    #expect(nested.execute(Self.iretq) == .generalProtection())
    // Not present: code, stack.
    let absent = TestProcessor(.long64)
    absent.setDescriptor(Entry.scratch, TestProcessor.segment(access: 0x1b, flags: 0xa))
    Self.frame(absent, [1, UInt64(Entry.scratch * 8), 2, 4, data0])
    #expect(absent.execute(Self.iretq) == .segmentNotPresent(UInt32(Entry.scratch * 8)))
    absent.setDescriptor(Entry.scratch, TestProcessor.segment(access: 0x13))
    Self.frame(absent, [1, code0, 2, 4, UInt64(Entry.scratch * 8)])
    #expect(absent.execute(Self.iretq) == .stackFault(UInt32(Entry.scratch * 8)))
  }

  @Test func compatibilityMode() {
    // Same ring from compatibility mode: three fields; to ring 3 five.
    let test = TestProcessor(.compatibility)
    Self.frame(test, [0x1111, UInt64(Entry.code64 * 8), 0x202], size: 4)
    #expect(test.execute(0xcf) == nil)
    #expect(test.cpu.pointee.gpr.4 == Layout.stack + 12 && test.processor.isLongMode64)
    let outer = TestProcessor(.compatibility)
    Self.frame(
      outer, [0x1111, UInt64((Entry.code32 + 6) * 8 + 3), 2, 0x2222, UInt64((Entry.data32 + 6) * 8 + 3)], size: 4)
    #expect(outer.execute(0xcf) == nil)
    #expect(outer.cpu.pointee.gpr.4 == 0x2222 && outer.cpu.pointee.cpl == 3 && !outer.processor.isLongMode64)
  }

  @Test func protectedMode() {
    for size in [2, 4] {
      let prefix: [UInt8] = size == 2 ? [0x66] : []
      let test = TestProcessor(.protected32)
      Self.frame(test, [0x1234, UInt64(Entry.code32 * 8), RFLAGS.if | 2], size: size)
      #expect(test.execute(prefix + [0xcf]) == nil)
      #expect(test.cpu.pointee.rip == 0x1234 && test.cpu.pointee.gpr.4 == Layout.stack + UInt64(3 * size))
      let outer = TestProcessor(.protected32)
      let code = UInt64((Entry.code32 + 6) * 8 + 3)
      Self.frame(outer, [0x1234, code, 2, 0x5678, UInt64((Entry.data32 + 6) * 8 + 3)], size: size)
      #expect(outer.execute(prefix + [0xcf]) == nil)
      #expect(outer.cpu.pointee.gpr.4 == 0x5678 && outer.cpu.pointee.cpl == 3)
      #expect(outer.cpu.pointee.segments.0.attributes == 0 && outer.cpu.pointee.segments.0.selector == 0)
    }
    let limit = TestProcessor(.protected32)
    limit.setDescriptor(Entry.scratch, TestProcessor.segment(limit: 0x1000, access: 0x9b, flags: 4))
    Self.frame(limit, [0x1001, UInt64(Entry.scratch * 8), 2], size: 4)
    #expect(limit.execute(0xcf) == .generalProtection())
  }

  @Test func toVirtual8086() {
    let test = TestProcessor(.protected32)
    let flags = RFLAGS.vm | RFLAGS.if | RFLAGS.fixed | 3 << 12
    Self.frame(test, [0x12, 0x34, flags, 0x56, 0x78, 0x100, 0x200, 0x300, 0x400], size: 4)
    #expect(test.execute(0xcf) == nil)
    let cpu = test.cpu
    #expect(cpu.pointee.rip == 0x12 && cpu.pointee.segments.1.base == 0x340 && cpu.pointee.cpl == 3)
    #expect(cpu.pointee.segments.2.base == 0x780 && cpu.pointee.gpr.4 == 0x56)
    #expect(cpu.pointee.segments.0.selector == 0x100 && cpu.pointee.segments.3.selector == 0x200)
    #expect(cpu.pointee.segments.4.selector == 0x300 && cpu.pointee.segments.5.base == 0x4000)
    #expect(cpu.pointee.rflags == flags && test.processor.isVirtual8086)
    #expect(cpu.pointee.segments.3.attributes == 0xf3 && cpu.pointee.segments.3.limit == 0xffff)
    // Ring 3 cannot do that: VM in the image is ignored.
    let user = TestProcessor(.protected32, ring: 3)
    Self.frame(user, [0x12, UInt64(user.cpu.pointee.segments.1.selector), flags], size: 4)
    #expect(user.execute(0xcf) == nil && !user.processor.isVirtual8086)
  }

  @Test func inVirtual8086() {
    for (iopl, usesVME, size) in [(3, false, 2), (3, false, 4), (0, false, 2), (0, true, 2), (0, true, 4)] {
      let test = TestProcessor(.virtual8086)
      let cpu = test.cpu
      cpu.pointee.rflags |= UInt64(iopl) << 12
      cpu.pointee.cr4 = usesVME ? CR4.vme : 0
      Self.frame(test, [0x99, 0x77, RFLAGS.if | RFLAGS.cf | RFLAGS.fixed], size: size)
      let fault = test.execute(size == 4 ? [0x66, 0xcf] : [0xcf])
      if iopl == 3 || (usesVME && size == 2) {
        #expect(fault == nil && cpu.pointee.rip == 0x99 && cpu.pointee.segments.1.base == 0x770)
        #expect(cpu.pointee.rflags & RFLAGS.if == (iopl == 3 ? RFLAGS.if : 0))
        #expect(cpu.pointee.rflags & RFLAGS.vif == (iopl == 3 ? 0 : RFLAGS.vif))
        #expect(cpu.pointee.rflags & RFLAGS.vm != 0 && cpu.pointee.rflags >> 12 & 3 == UInt64(iopl))
      } else {
        #expect(fault == .generalProtection())
      }
    }
    let pending = TestProcessor(.virtual8086)
    pending.cpu.pointee.cr4 = CR4.vme
    pending.cpu.pointee.rflags |= RFLAGS.vip
    Self.frame(pending, [0x99, 0x77, RFLAGS.if], size: 2)
    #expect(pending.execute(0xcf) == .generalProtection())
  }
}
