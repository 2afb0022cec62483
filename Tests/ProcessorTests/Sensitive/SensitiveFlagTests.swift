import CHost
import Testing
import X86

@testable import Processor

/// PUSHF, POPF and IRET: which flags they show and change (SDM vol. 2B, table 4-16; vol. 2A, IRET).
struct SensitiveFlagTests {
  /// Flags that may be loaded, without TF and NT, whose consequences are other tests'.
  static let image = RFLAGS.arithmetic | RFLAGS.if | RFLAGS.df | RFLAGS.iopl | RFLAGS.ac | RFLAGS.id

  /// RFLAGS after `image` was loaded over `old` by code of that ring.
  static func loaded(_ image: UInt64, over old: UInt64, _ setting: SensitiveSetting, size: Int) -> UInt64 {
    var mask = RFLAGS.arithmetic | RFLAGS.df | RFLAGS.tf | RFLAGS.nt
    if size > 2 { mask |= RFLAGS.ac | RFLAGS.id }
    if setting.ring == 0 { mask |= RFLAGS.iopl }
    if UInt64(setting.ring) <= setting.iopl { mask |= RFLAGS.if }
    return old & ~mask | image & mask
  }

  @Test(arguments: SensitiveSetting.withoutUMIP) func popf(setting: SensitiveSetting) {
    for image in [Self.image, 0] {
      for flag in [RFLAGS.if, 0] {
        let test = setting.make()
        let size = setting.slotSize
        test.cpu.pointee.rflags |= flag
        let old = test.cpu.pointee.rflags
        setting.pushed(test, [image], size: size)
        let isRefused = setting.mode == .virtual8086 && setting.iopl < 3
        #expect(test.execute(0x9d) == (isRefused ? .generalProtection() : nil))
        #expect(test.cpu.pointee.rflags == (isRefused ? old : Self.loaded(image, over: old, setting, size: size)))
        #expect(test.cpu.pointee.gpr.4 == 0x8000 + (isRefused ? 0 : UInt64(size)))
      }
    }
  }

  @Test(arguments: SensitiveSetting.withoutUMIP) func pushf(setting: SensitiveSetting) {
    for flag in [RFLAGS.if, 0] {
      let test = setting.make()
      let size = setting.slotSize
      test.cpu.pointee.rflags |= flag | RFLAGS.cf | RFLAGS.id
      let isRefused = setting.mode == .virtual8086 && setting.iopl < 3
      #expect(test.execute(0x9c) == (isRefused ? .generalProtection() : nil))
      guard !isRefused else { continue }
      #expect(test.cpu.pointee.gpr.4 == 0x8000 - UInt64(size))
      let shown = test.cpu.pointee.rflags & ~RFLAGS.vm
      #expect(test.stack(0, size: size) == (size == 2 ? shown & 0xffff : shown))
    }
  }

  @Test(arguments: SensitiveSetting.withoutUMIP) func iret(setting: SensitiveSetting) {
    for flag in [RFLAGS.if, 0] {
      let test = setting.make()
      let size = setting.operandSize
      test.cpu.pointee.rflags |= flag
      let old = test.cpu.pointee.rflags
      let values = [SensitiveSetting.target, UInt64(setting.code(setting.ring)), Self.image, 0x7800]
      setting.pushed(test, values + [UInt64(setting.data(setting.ring))], size: size)
      let isRefused = setting.mode == .virtual8086 && setting.iopl < 3
      #expect(test.execute(0xcf) == (isRefused ? .generalProtection() : nil))
      #expect(test.cpu.pointee.rflags == (isRefused ? old : Self.loaded(Self.image, over: old, setting, size: size)))
      guard !isRefused else { continue }
      // 64-bit code always gets a new stack pointer.
      #expect(test.cpu.pointee.gpr.4 == (setting.mode == .long64 ? 0x7800 : 0x8000 + UInt64(3 * size)))
      #expect(Int(test.cpu.pointee.cpl) == setting.ring)
    }
  }
}
