import CHost
import Testing
import X86

@testable import Processor

/// SGDT, SIDT, SLDT, STR and SMSW: the values, in registers and in memory (SDM vol. 2B).
struct SensitiveStoreTests {
  static func isRefused(_ setting: SensitiveSetting) -> Bool {
    setting.umip && (setting.ring == 3 || setting.mode == .virtual8086)
  }

  @Test(arguments: SensitiveSetting.all) func tables(setting: SensitiveSetting) {
    for (number, limit, base) in [(UInt8(0), UInt16(0x1ff), TestProcessor.Layout.gdt), (1, 0x1234, 0x1234_5678)] {
      let test = setting.make()
      test.cpu.pointee.idtr = DescriptorTableState(base: 0x1234_5678, limit: 0x1234, reserved: 0)
      test.store(~0 as UInt64, SensitiveSetting.data)
      test.store(~0 as UInt64, SensitiveSetting.data + 8)
      let want: GuestFault? = Self.isRefused(setting) ? .generalProtection() : nil
      #expect(test.execute(0x0f, 0x01, setting.memory(number)) == want)
      let words: (UInt64, UInt64) = (test.load(SensitiveSetting.data), test.load(SensitiveSetting.data + 8))
      guard want == nil else {
        #expect(words == (~0, ~0))
        continue
      }
      #expect(words.0 == UInt64(limit) | base << 16 | (setting.mode == .long64 ? 0 : 0xffff << 48))
      #expect(words.1 == (setting.mode == .long64 ? ~0xffff : ~0))
    }
  }

  @Test(arguments: SensitiveSetting.all) func selectorsAndStatus(setting: SensitiveSetting) {
    let selector = { (index: Int) in UInt64(TestProcessor.selector(index)) }
    let codes: [([UInt8], Bool)] = [
      ([0x0f, 0x00, 0xc0], true), ([0x0f, 0x00, 0xc8], true), ([0x0f, 0x01, 0xe0], false),
    ]
    for (code, isSystem) in codes {
      let test = setting.make()
      let value: UInt64
      switch code[2] {
      case 0xc0: value = selector(TestProcessor.Entry.localTable)
      case 0xc8: value = selector(TestProcessor.Entry.task)
      default: value = test.cpu.pointee.cr0
      }
      let want: GuestFault? =
        isSystem && setting.usesParagraphs ? .invalidOpcode : Self.isRefused(setting) ? .generalProtection() : nil
      let old: UInt64 = 0xaaaa_bbbb_cccc_dddd
      test.cpu.pointee.gpr.0 = old
      #expect(test.execute(code) == want)
      let register = setting.is16 ? old & ~0xffff | value & 0xffff : value & 0xffff_ffff
      #expect(test.cpu.pointee.gpr.0 == (want == nil ? register : old))
      // The other operand size, all 64 bits, and memory, which always gets 16 bits.
      test.cpu.pointee.gpr.0 = old
      #expect(test.execute([0x66] + code) == want)
      let other = setting.is16 ? value & 0xffff_ffff : old & ~0xffff | value & 0xffff
      #expect(test.cpu.pointee.gpr.0 == (want == nil ? other : old))
      if setting.mode == .long64, want == nil {
        #expect(test.execute([0x48] + code) == nil && test.cpu.pointee.gpr.0 == value)
      }
      test.store(old, SensitiveSetting.data)
      #expect(test.execute([0x0f, code[1], setting.memory(code[2] >> 3 & 7)]) == want)
      let stored: UInt64 = test.load(SensitiveSetting.data)
      #expect(stored == (want == nil ? old & ~0xffff | value & 0xffff : old))
    }
  }
}
