import CHost
import Testing
import X86

@testable import Processor

/// Far CALL, JMP and RET, and INT n: where they lead, what they push and what they refuse.
struct SensitiveTransferTests {
  typealias Entry = TestProcessor.Entry
  typealias Layout = TestProcessor.Layout

  @Test(arguments: SensitiveSetting.withoutUMIP) func farPointers(setting: SensitiveSetting) {
    for ring in [0, 3] {
      for reg in [UInt8(3), 5] {
        let test = setting.make()
        let selector = setting.code(ring)
        let old = UInt64(test.cpu.pointee.segments.1.selector)
        setting.setFarPointer(test, selector)
        let isAllowed = setting.usesParagraphs || ring == setting.ring
        let want: GuestFault? = isAllowed ? nil : .generalProtection(UInt32(selector & 0xfffc))
        #expect(test.execute(0xff, setting.memory(reg)) == want)
        #expect(test.cpu.pointee.rip == (isAllowed ? SensitiveSetting.target : Layout.code))
        let size = setting.operandSize
        let pushed = isAllowed && reg == 3 ? UInt64(2 * size) : 0
        #expect(test.cpu.pointee.gpr.4 == Layout.stack - pushed)
        guard pushed > 0 else { continue }
        #expect(test.stack(0, size: size) == Layout.code + 2 && test.stack(1, size: size) == old)
        #expect(test.cpu.pointee.segments.1.selector == selector)
      }
    }
  }

  /// Conforming code runs at the caller's ring.
  @Test(arguments: SensitiveSetting.withoutUMIP.filter { !$0.usesParagraphs })
  func conforming(setting: SensitiveSetting) {
    let test = setting.make()
    let entry = setting.mode == .long64 ? Entry.conforming64 : Entry.conforming32
    setting.setFarPointer(test, TestProcessor.selector(entry, setting.ring))
    #expect(test.execute(0xff, setting.memory(5)) == nil)
    #expect(Int(test.cpu.pointee.cpl) == setting.ring)
    #expect(test.cpu.pointee.segments.1.selector == TestProcessor.selector(entry, setting.ring))
  }

  /// A far return leads to the same ring or outwards, and takes a stack from there.
  @Test(arguments: SensitiveSetting.withoutUMIP) func returns(setting: SensitiveSetting) {
    for ring in [0, 3] {
      let test = setting.make()
      let selector = setting.code(ring)
      let values = [SensitiveSetting.target, UInt64(selector), 0x7800, UInt64(setting.data(ring))]
      setting.pushed(test, values, size: setting.operandSize)
      let isAllowed = setting.usesParagraphs || ring >= setting.ring
      #expect(test.execute(0xcb) == (isAllowed ? nil : .generalProtection(UInt32(selector & 0xfffc))))
      guard isAllowed else { continue }
      #expect(test.cpu.pointee.rip == SensitiveSetting.target)
      if !setting.usesParagraphs { #expect(Int(test.cpu.pointee.cpl) == ring) }
      let isOutward = !setting.usesParagraphs && ring > setting.ring
      #expect(test.cpu.pointee.gpr.4 == (isOutward ? 0x7800 : Layout.stack + UInt64(2 * setting.operandSize)))
    }
  }

  /// The gate's DPL must not be below CPL; interrupt gates clear IF, whatever IOPL is.
  @Test(arguments: SensitiveSetting.withoutUMIP) func interrupts(setting: SensitiveSetting) {
    for dpl in [UInt8(0), 3] {
      for isTrap in [false, true] {
        let test = setting.make()
        let isLong = setting.mode == .long64 || setting.mode == .compatibility
        if setting.mode != .real {
          let selector = TestProcessor.selector(isLong ? Entry.code64 : Entry.code32)
          test.setGate(0x80, selector, Layout.handler + 0x80, access: (isTrap ? 0x8f : 0x8e) | dpl << 5)
        }
        test.cpu.pointee.rflags |= RFLAGS.if
        if setting.mode == .virtual8086, setting.iopl < 3 {
          #expect(test.execute(0xcd, 0x80) == .generalProtection())
          continue
        }
        #expect(test.execute(0xcd, 0x80) == nil)
        let isAllowed = setting.mode == .real || Int(dpl) >= setting.ring
        #expect(test.handledVector == (isAllowed ? 0x80 : 13))
        #expect(test.cpu.pointee.cpl == 0)
        guard isAllowed else {
          #expect(test.stack(0, size: isLong ? 8 : 4) == 0x80 * 8 + 2, "the error code")
          continue
        }
        #expect((test.cpu.pointee.rflags & RFLAGS.if != 0) == (isTrap && setting.mode != .real))
        #expect(test.cpu.pointee.rflags & RFLAGS.vm == 0)
        let size = setting.mode == .real ? 2 : isLong ? 8 : 4
        #expect(test.stack(0, size: size) == Layout.code + 2)
        #expect(test.stack(2, size: size) & RFLAGS.if != 0)
      }
    }
  }
}
