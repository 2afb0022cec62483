import CHost
import Testing
import X86

@testable import Processor

/// LAR, LSL, VERR and VERW, and MOV, PUSH and POP of segment registers: what they show of descriptors and of CPL, and
/// which loads are refused.
struct SensitiveSegmentTests {
  typealias Entry = TestProcessor.Entry

  @Test(arguments: SensitiveSetting.withoutUMIP) func inspection(setting: SensitiveSetting) {
    for dpl in [0, 3] {
      for rpl in [0, 3] {
        let test = setting.make()
        let raw = TestProcessor.segment(limit: 0x12, access: 0x93 | UInt8(dpl) << 5)
        test.setDescriptor(Entry.scratch, raw)
        test.cpu.pointee.gpr.1 = UInt64(TestProcessor.selector(Entry.scratch, rpl))
        let isVisible = dpl >= setting.ring && dpl >= rpl
        let want: GuestFault? = setting.usesParagraphs ? .invalidOpcode : nil
        for (code, value) in [([0x0f, 0x02, 0xc1] as [UInt8], raw >> 32 & 0xff_ff00), ([0x0f, 0x03, 0xc1], 0x1_2fff)] {
          test.cpu.pointee.gpr.0 = 0x77
          test.cpu.pointee.rflags |= RFLAGS.zf
          #expect(test.execute(code) == want)
          guard want == nil else { continue }
          #expect((test.cpu.pointee.rflags & RFLAGS.zf != 0) == isVisible)
          #expect(test.cpu.pointee.gpr.0 == (isVisible ? value & (setting.is16 ? 0xffff : ~0) : 0x77))
        }
        for code in [[0x0f, 0x00, 0xe1], [0x0f, 0x00, 0xe9]] as [[UInt8]] {
          #expect(test.execute(code) == want)
          guard want == nil else { continue }
          #expect((test.cpu.pointee.rflags & RFLAGS.zf != 0) == isVisible)
        }
      }
    }
  }

  /// The selector has CPL in it.
  @Test(arguments: SensitiveSetting.withoutUMIP) func stores(setting: SensitiveSetting) {
    let test = setting.make()
    let selector = UInt64(test.cpu.pointee.segments.2.selector)
    if !setting.usesParagraphs { #expect(Int(selector & 3) == setting.ring) }
    test.cpu.pointee.gpr.0 = ~0
    #expect(test.execute(0x8c, 0xd0) == nil)
    #expect(test.cpu.pointee.gpr.0 == (setting.is16 ? ~0xffff | selector : selector))
    test.store(~0 as UInt64, SensitiveSetting.data)
    #expect(test.execute(0x8c, setting.memory(2)) == nil)
    #expect(test.load(SensitiveSetting.data) == ~0xffff | selector)
    let old = UInt64(test.cpu.pointee.segments.4.selector)
    #expect(test.execute(0x0f, 0xa0) == nil)
    #expect(test.cpu.pointee.gpr.4 == 0x8000 - UInt64(setting.slotSize))
    #expect(test.stack(0, size: setting.slotSize) == old)
  }

  @Test(arguments: SensitiveSetting.withoutUMIP) func loads(setting: SensitiveSetting) {
    for dpl in [0, 3] {
      for isPresent in [true, false] {
        let access = 0x13 | UInt8(dpl) << 5 | (isPresent ? 0x80 : 0)
        let selector = TestProcessor.selector(Entry.scratch, setting.ring)
        let error = UInt32(selector & 0xfffc)
        var want: GuestFault?
        if !setting.usesParagraphs {
          if dpl < setting.ring {
            want = .generalProtection(error)
          } else if !isPresent {
            want = .segmentNotPresent(error)
          }
        }
        for code in [[0x8e, 0xe1], [0x0f, 0xa1]] as [[UInt8]] {
          let test = setting.make()
          test.setDescriptor(Entry.scratch, TestProcessor.segment(base: 0x4321, limit: 0x12, access: access))
          test.cpu.pointee.gpr.1 = UInt64(selector)
          setting.pushed(test, [UInt64(selector)], size: setting.slotSize)
          let old = test.cpu.pointee.segments.4.selector
          #expect(test.execute(code) == want)
          #expect(test.cpu.pointee.segments.4.selector == (want == nil ? selector : old))
          if want == nil {
            #expect(test.cpu.pointee.segments.4.base == (setting.usesParagraphs ? UInt64(selector) << 4 : 0x4321))
          }
          let moved = code[0] == 0x0f && want == nil ? UInt64(setting.slotSize) : 0
          #expect(test.cpu.pointee.gpr.4 == 0x8000 + moved)
        }
        // SS wants the ring exactly.
        let test = setting.make()
        test.setDescriptor(Entry.scratch, TestProcessor.segment(access: access))
        test.cpu.pointee.gpr.1 = UInt64(selector)
        if !setting.usesParagraphs {
          want = dpl != setting.ring ? .generalProtection(error) : isPresent ? nil : .stackFault(error)
        }
        #expect(test.execute(0x8e, 0xd1) == want)
      }
    }
  }
}
