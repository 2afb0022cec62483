import CHost
import CZydis
import X86

/// Which flags instructions leave undefined, and so may differ between engines.
///
/// Zydis has the manuals' tables: AF after logic and shifts; OF after shifts and rotates whose count is not 1; SF, ZF,
/// AF and PF after MUL and IMUL; all of them after DIV and IDIV; all but ZF after BSF, BSR, TZCNT and LZCNT (CF there);
/// OF, SF, AF and PF after BT, BTS, BTR and BTC; and so on. They do not say that a shift by one defines OF, nor that a
/// shift by CL, or a repeated string comparison, may leave all flags as they were.
enum UndefinedFlags {
  enum Verdict: Equatable {
    /// The last instruction that writes them leaves each of them undefined. The nearest of these instructions.
    case undefined(ZydisMnemonic)
    /// One of them is defined.
    case defined
    /// None of the instructions writes one of them, and none is known to be defined.
    case unknown
  }

  /// What to think of `flags` (bits of RFLAGS) behind the instructions at these places.
  static func verdict(on flags: UInt64, behind addresses: [CodeAddress], _ reader: CodeReader) -> Verdict {
    var open = flags
    var culprit: ZydisMnemonic?
    for address in addresses.reversed() where open != 0 {
      // Not readable any more: what it did cannot be known.
      guard let instruction = reader.instruction(at: address) else { return .unknown }
      let effect = Effect(instruction)
      if !effect.isConditional, open & effect.defined != 0 { return .defined }
      guard open & effect.undefined != 0 else { continue }
      culprit = culprit ?? instruction.decoded.mnemonic
      open &= ~effect.undefined
    }
    return culprit.map { open == 0 ? .undefined($0) : .unknown } ?? .unknown
  }

  /// What an instruction does to the arithmetic flags.
  struct Effect {
    var defined: UInt64 = 0
    var undefined: UInt64 = 0
    /// Leaves them alone where its count is zero.
    var isConditional = false

    init(_ instruction: CodeReader.Instruction) {
      guard let flags = instruction.decoded.cpu_flags?.pointee else { return }
      // Zydis's bits are RFLAGS's.
      undefined = UInt64(flags.undefined) & RFLAGS.arithmetic
      defined = UInt64(flags.modified | flags.set_0 | flags.set_1) & RFLAGS.arithmetic & ~undefined
      let count = instruction.operands.prefix(Int(instruction.decoded.operand_count_visible)).last
      switch instruction.decoded.mnemonic {
      case ZYDIS_MNEMONIC_SHL, ZYDIS_MNEMONIC_SHR, ZYDIS_MNEMONIC_SAR, ZYDIS_MNEMONIC_ROL, ZYDIS_MNEMONIC_ROR,
        ZYDIS_MNEMONIC_RCL, ZYDIS_MNEMONIC_RCR, ZYDIS_MNEMONIC_SHLD, ZYDIS_MNEMONIC_SHRD:
        isConditional = count?.type == ZYDIS_OPERAND_TYPE_REGISTER
        if count?.type == ZYDIS_OPERAND_TYPE_IMMEDIATE, count?.imm.value.u == 1 {
          defined |= undefined & RFLAGS.of
          undefined &= ~RFLAGS.of
        }
      default:
        let repeats = UInt64(ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE | ZYDIS_ATTRIB_HAS_REPNE)
        isConditional = instruction.decoded.attributes & repeats != 0
      }
    }
  }
}
