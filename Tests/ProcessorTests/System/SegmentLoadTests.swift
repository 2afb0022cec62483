import CHost
import Testing
import X86

@testable import Processor

struct SegmentLoadTests {
  typealias Entry = TestProcessor.Entry
  typealias Layout = TestProcessor.Layout

  /// What the manual wants of a segment load.
  static func expected(_ access: UInt8, cpl: Int, rpl: Int, isStack: Bool, error: UInt32) -> GuestFault? {
    let dpl = Int(access >> 5 & 3)
    let type = access & 0x1f
    let isPresent = access & 0x80 != 0
    if isStack {
      guard rpl == cpl, type & 0x1a == 0x12, dpl == cpl else { return .generalProtection(error) }
      return isPresent ? nil : .stackFault(error)
    }
    let isReadable = type & 0x18 == 0x10 || type & 0x1a == 0x1a
    let isConforming = type & 0x1c == 0x1c
    guard isReadable, isConforming || (dpl >= cpl && dpl >= rpl) else { return .generalProtection(error) }
    return isPresent ? nil : .segmentNotPresent(error)
  }

  @Test(arguments: [TestProcessor.Mode.protected32, .long64, .compatibility])
  func matrix(_ mode: TestProcessor.Mode) {
    for cpl in [0, 1, 3] {
      let test = TestProcessor(mode, ring: cpl)
      for access in UInt8(0)...255 {
        for rpl in 0..<4 {
          for register in [SegmentRegister.ds, .ss] {
            test.setDescriptor(Entry.scratch, TestProcessor.segment(base: 0x12_3456, access: access & ~1))
            let selector = TestProcessor.selector(Entry.scratch, rpl)
            let old = test.cpu.pointee.segments
            test.cpu.pointee.gpr.0 = UInt64(selector)
            let fault = test.execute(0x8e, 0xc0 | UInt8(register.rawValue) << 3)
            let want = Self.expected(
              access & ~1, cpl: cpl, rpl: rpl, isStack: register == .ss, error: UInt32(Entry.scratch * 8))
            #expect(fault == want, "access \(access) rpl \(rpl) \(register)")
            let isMarked = test.descriptor(Entry.scratch) >> 40 & 1 == 1
            #expect(isMarked == (want == nil))
            if want == nil {
              let loaded = test.processor.segment(register)
              #expect(loaded.selector == selector && loaded.base == 0x12_3456 && loaded.limit == 0xffff_ffff)
              #expect(loaded.attributes == 0xc000 | UInt16(access | 1))
            }
            test.cpu.pointee.segments = old
            test.cpu.pointee.rip = Layout.code
            test.processor.modeChanged()
          }
        }
      }
    }
  }

  @Test func nullSelectors() {
    for mode in [TestProcessor.Mode.protected32, .long64] {
      for cpl in [0, 3] {
        let test = TestProcessor(mode, ring: cpl)
        for selector in UInt64(0)..<4 {
          test.cpu.pointee.gpr.0 = selector
          test.cpu.pointee.segments.4.base = 77
          #expect(test.execute(0x8e, 0xe0) == nil)
          #expect(test.cpu.pointee.segments.4.attributes == 0 && test.cpu.pointee.segments.4.base == 0)
          #expect(UInt64(test.cpu.pointee.segments.4.selector) == selector)
          let mayBeNull = mode == .long64 && cpl < 3 && selector == UInt64(cpl)
          #expect(test.execute(0x8e, 0xd0) == (mayBeNull ? nil : .generalProtection()))
        }
      }
    }
  }

  @Test func tableLimits() {
    let test = TestProcessor(.protected32)
    test.cpu.pointee.gdtr.limit = UInt32(Entry.data32 * 8 + 7)
    test.cpu.pointee.gpr.0 = UInt64(Entry.data32 * 8)
    #expect(test.execute(0x8e, 0xd8) == nil)
    test.cpu.pointee.gdtr.limit -= 1
    #expect(test.execute(0x8e, 0xd8) == .generalProtection(UInt32(Entry.data32 * 8)))
    // No LDT, then one of one entry.
    test.cpu.pointee.gdtr.limit = 0xfff
    test.cpu.pointee.gpr.0 = 0xc
    #expect(test.execute(0x8e, 0xd8) == .generalProtection(0xc))
    test.store(TestProcessor.segment(base: 0x77, access: 0x93), Layout.ldt + 8)
    test.cpu.pointee.gpr.1 = UInt64(Entry.localTable * 8)
    #expect(test.execute(0x0f, 0x00, 0xd1) == nil, "LLDT")
    #expect(test.execute(0x8e, 0xd8) == nil && test.cpu.pointee.segments.3.base == 0x77)
    test.cpu.pointee.ldtr.limit = 14
    #expect(test.execute(0x8e, 0xd8) == .generalProtection(0xc))
  }

  @Test func realMode() {
    let test = TestProcessor(.real)
    test.cpu.pointee.segments.3.limit = 0xffff_ffff
    test.cpu.pointee.gpr.0 = 0x1234
    #expect(test.execute(0x8e, 0xd8) == nil)
    #expect(test.cpu.pointee.segments.3.base == 0x12340 && test.cpu.pointee.segments.3.limit == 0xffff_ffff)
    #expect(test.execute(0x8c, 0xdb) == nil && test.cpu.pointee.gpr.3 == 0x1234)
  }

  @Test func pushesAndPops() {
    let test = TestProcessor(.protected32)
    let ds = UInt64(test.cpu.pointee.segments.3.selector)
    #expect(test.execute(0x1e) == nil && test.stack(0, size: 4) == ds)
    #expect(test.execute(0x66, 0x1e) == nil && test.stack(0, size: 2) == ds)
    #expect(test.cpu.pointee.gpr.4 == Layout.stack - 6)
    #expect(test.execute(0x66, 0x07) == nil && test.execute(0x0f, 0xa1) == nil)
    #expect(test.cpu.pointee.gpr.4 == Layout.stack)
    // POP SS moves the pointer by the old stack's width, and shields the next instruction.
    test.store(UInt32(Entry.data16 * 8), Layout.stack)
    test.cpu.pointee.gpr.4 = 0x1_0000 + Layout.stack
    test.store(UInt32(Entry.data16 * 8), 0x1_0000 + Layout.stack)
    #expect(test.execute(0x17) == nil)
    #expect(test.cpu.pointee.gpr.4 == 0x1_0004 + Layout.stack)
    #expect(test.processor.shadow == .movSS && !test.processor.codeMode.contains(.stack32))
    // A fault leaves everything alone.
    let bad = TestProcessor(.long64)
    bad.store(0x999 as UInt64, Layout.stack)
    #expect(bad.execute(0x0f, 0xa9) == .generalProtection(0x998) && bad.cpu.pointee.gpr.4 == Layout.stack)
    #expect(bad.execute(0x0f, 0xa0) == nil && bad.stack(0) == UInt64(bad.cpu.pointee.segments.4.selector))
  }

  @Test func farPointers() {
    let test = TestProcessor(.protected32)
    test.store(0x1122_3344 as UInt32, Layout.data)
    test.store(UInt16(Entry.data32 * 8 + 3), Layout.data + 4)
    test.cpu.pointee.gpr.7 = Layout.data
    test.cpu.pointee.gpr.0 = 0
    // LES with an RPL that is beyond the descriptor's DPL, then without.
    #expect(test.execute(0xc4, 0x07) == .generalProtection(UInt32(Entry.data32 * 8)))
    #expect(test.cpu.pointee.gpr.0 == 0)
    test.store(UInt16(Entry.data32 * 8), Layout.data + 4)
    #expect(test.execute(0xc4, 0x07) == nil && test.cpu.pointee.gpr.0 == 0x1122_3344)
    let wide = TestProcessor(.long64)
    wide.cpu.pointee.gpr.7 = Layout.data
    wide.store(0x1122_3344_5566_7788 as UInt64, Layout.data)
    wide.store(UInt16(Entry.data32 * 8), Layout.data + 8)
    #expect(wide.execute(0x48, 0x0f, 0xb4, 0x07) == nil && wide.cpu.pointee.gpr.0 == 0x1122_3344_5566_7788)
    #expect(wide.cpu.pointee.segments.4.selector == UInt16(Entry.data32 * 8))
  }

  /// REX.W makes the offset 64 bits wide on Intel's processors alone; this is what a Zen 4 does.
  @Test func farPointersOfAMD() {
    let test = TestProcessor(.long64, model: CPUModel(vendor: .amd))
    test.cpu.pointee.gpr.7 = Layout.data
    test.store(UInt64(Entry.data32 * 8) << 32 | 0xff33_2211, Layout.data)
    test.cpu.pointee.gpr.0 = ~0
    #expect(test.execute(0x48, 0x0f, 0xb2, 0x07) == nil)
    #expect(test.cpu.pointee.gpr.0 == 0xff33_2211)
    #expect(test.cpu.pointee.segments.2.selector == UInt16(Entry.data32 * 8))
    test.store(UInt64(Entry.code64 * 8) << 32 | 0x1234, Layout.data)
    test.cpu.pointee.gpr.4 = Layout.stack
    // CALL FAR: what is pushed has 64 bits.
    #expect(test.execute(0x48, 0xff, 0x1f) == nil)
    #expect(test.cpu.pointee.rip == 0x1234 && test.cpu.pointee.gpr.4 == Layout.stack - 16)
  }
}
