import CHost
import Testing
import X86

@testable import Processor

/// Each instruction of `SensitiveInstruction.all` in each mode: it runs or faults as the table says.
struct SensitiveOutcomeTests {
  /// The instruction's bytes, with operands set that are legal at the setting's ring.
  static func prepare(_ name: String, _ setting: SensitiveSetting, _ test: TestProcessor) -> [UInt8]? {
    test.cpu.pointee.gpr.1 = UInt64(setting.data(setting.ring))
    switch name {
    case "popf":
      setting.pushed(test, [RFLAGS.cf], size: setting.slotSize)
      return [0x9d]
    case "pushf": return [0x9c]
    case "sgdt": return [0x0f, 0x01, setting.memory(0)]
    case "sidt": return [0x0f, 0x01, setting.memory(1)]
    case "sldt": return [0x0f, 0x00, 0xc0]
    case "str": return [0x0f, 0x00, 0xc8]
    case "smsw": return [0x0f, 0x01, 0xe0]
    case "lar": return [0x0f, 0x02, 0xc1]
    case "lsl": return [0x0f, 0x03, 0xc1]
    case "verr": return [0x0f, 0x00, 0xe1]
    case "verw": return [0x0f, 0x00, 0xe9]
    case "mov sreg": return [0x8e, 0xc1]
    case "push sreg": return [0x0f, 0xa0]
    case "pop sreg":
      setting.pushed(test, [UInt64(setting.data(setting.ring))], size: setting.slotSize)
      return [0x0f, 0xa1]
    case "call far", "jmp far":
      setting.setFarPointer(test, setting.code(setting.ring))
      return [0xff, setting.memory(name == "call far" ? 3 : 5)]
    case "ret far":
      setting.pushed(test, [SensitiveSetting.target, UInt64(setting.code(setting.ring))], size: setting.operandSize)
      return [0xcb]
    case "int n": return [0xcd, 0x80]
    case "iret":
      let stack = UInt64(setting.data(setting.ring))
      setting.pushed(
        test, [SensitiveSetting.target, UInt64(setting.code(setting.ring)), RFLAGS.fixed, 0x7800, stack],
        size: setting.operandSize)
      return [0xcf]
    default: return nil
    }
  }

  static func expected(_ one: SensitiveInstruction, _ setting: SensitiveSetting) -> GuestFault? {
    let outcome: SensitiveInstruction.Outcome
    if setting.mode == .virtual8086 {
      let plain = setting.iopl == 3 ? one.virtual8086IOPL3 : one.virtual8086
      outcome = plain == .runs && setting.umip ? one.userWithUMIP : plain
    } else if setting.mode == .real {
      // What virtual-8086 mode does not know real mode does not either.
      outcome = one.virtual8086 == .invalidOpcode ? .invalidOpcode : .runs
    } else {
      outcome = setting.ring == 0 ? .runs : setting.umip ? one.userWithUMIP : one.user
    }
    switch outcome {
    case .runs: return nil
    case .generalProtection: return .generalProtection()
    case .invalidOpcode: return .invalidOpcode
    }
  }

  @Test(arguments: SensitiveSetting.all) func outcomes(setting: SensitiveSetting) throws {
    for one in SensitiveInstruction.all {
      let test = setting.make()
      let code = try #require(Self.prepare(one.name, setting, test))
      let want = Self.expected(one, setting)
      #expect(test.execute(code) == want, "\(one.name)")
      if one.name == "int n", want == nil { #expect(test.handledVector == 0x80, "\(one.name)") }
      if ["call far", "jmp far", "ret far", "iret"].contains(one.name), want == nil {
        #expect(test.cpu.pointee.rip == SensitiveSetting.target, "\(one.name)")
      }
      if want != nil { #expect(test.cpu.pointee.rip == TestProcessor.Layout.code && test.cpu.pointee.gpr.4 == 0x8000) }
    }
  }

  @Test func everyInstructionIsKnown() {
    for one in SensitiveInstruction.all {
      #expect(one.family.hasPrefix("Processor/"), "\(one.name) has a row")
    }
  }
}
