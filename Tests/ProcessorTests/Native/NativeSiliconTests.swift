import CHost
import CZydis
import Glibc
import TestSupport
import Testing
import X86

@testable import Processor

/// Every form on the allow-list, through chain handler and slow path, against the instruction itself.
@Suite(.serialized, .enabled(if: NativeFeatures.host.contains(.avx2)))
struct NativeSiliconTests {
  /// Instructions of the unit's ISA sets that others implement, or nobody on purpose.
  private static let notNative: Set<String> = [
    "crc32", "lfence", "mfence", "sfence", "movnti", "nop", "sysenter", "sysexit", "ud0", "ud1", "ud2",
  ]

  @Test func everyFormMatchesSilicon() throws {
    let bench = try NativeBench()
    let oracle = try NativeOracle()
    var random = SeededRandom(seed: 7)
    var forms = 0
    var cases = 0
    var mnemonics: Set<String> = []
    try NativeForms.enumerate { form, decoder in
      if Self.notNative.contains(form.mnemonic) || Self.hasRowOfItsOwn(decoder) { return }
      if Self.touchesStackPointer(decoder, form) { return }
      forms += 1
      mnemonics.insert(form.mnemonic)
      let access = NativeCase.access(of: decoder)
      for variant in NativeCase.Variant.allCases where variant.applies(to: access) {
        var one = NativeCase(form: form, access: access, variant: variant)
        try one.compare(bench, oracle, &random)
        cases += 1
      }
    }
    print("native unit: \(mnemonics.count) mnemonics, \(forms) forms, \(cases) cases against silicon")
    #expect(mnemonics.count > 600)
  }

  /// Gathers and MASKMOV have implicit or scattered memory operands; x87 control has no memory operand like others.
  private static func hasRowOfItsOwn(_ decoder: InstructionDecoder) -> Bool {
    let op = decoder.operands(offset: 0, number: 0)
    guard InstructionTable.rowNumber(for: decoder.instruction.pointee.mnemonic, op) != nil else { return false }
    let mnemonic = decoder.instruction.pointee.mnemonic
    // These share their mnemonic with string instructions, or have a fast path too.
    return ![
      ZYDIS_MNEMONIC_MOVSD, ZYDIS_MNEMONIC_CMPSD, ZYDIS_MNEMONIC_VMASKMOVPS, ZYDIS_MNEMONIC_VMASKMOVPD,
      ZYDIS_MNEMONIC_VPMASKMOVD, ZYDIS_MNEMONIC_VPMASKMOVQ,
    ].contains(mnemonic)
  }

  /// RSP cannot be an operand on the host, nor RAX beside [RAX].
  private static func touchesStackPointer(_ decoder: InstructionDecoder, _ form: NativeForms.Form) -> Bool {
    (0..<Int(decoder.instruction.pointee.operand_count)).contains { index in
      let operand = (decoder.operands + index).pointee
      guard operand.type == ZYDIS_OPERAND_TYPE_REGISTER else { return false }
      switch ZydisRegisterGetClass(operand.reg.value) {
      case ZYDIS_REGCLASS_GPR16, ZYDIS_REGCLASS_GPR32, ZYDIS_REGCLASS_GPR64:
        let id = ZydisRegisterGetId(operand.reg.value)
        return id == 4 || (id == 0 && form.isMemory && operand.visibility == ZYDIS_OPERAND_VISIBILITY_EXPLICIT)
      default: return false
      }
    }
  }
}
