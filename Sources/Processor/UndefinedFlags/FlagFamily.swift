import CZydis
import X86

/// Instructions that leave the same flags undefined in the same way, as far as is known of any processor.
enum FlagFamily: Int, CaseIterable, Sendable {
  case shl, shr, sar
  case rol, ror, rcl, rcr
  /// Rotates through carry whose count is a multiple of their period: the operand stays, and so does CF.
  case rclWholeTurn, rcrWholeTurn
  case shld, shrd
  case mul, imul
  /// IMUL with two or three operands.
  case imulTruncating
  case div, idiv
  case bsf, bsr
  /// A source of zero.
  case bsfZero, bsrZero
  case tzcnt, lzcnt
  case bitTest
  case bextr, blsi, blsmsk, blsr, bzhi, andn
  /// AND, OR, XOR and TEST.
  case logic

  /// Arithmetic flags that the family leaves undefined, some of them perhaps for some counts only.
  var undefined: UInt64 {
    switch self {
    case .shl, .shr: RFLAGS.af | RFLAGS.of | RFLAGS.cf
    case .sar, .shld, .shrd: RFLAGS.af | RFLAGS.of
    case .rol, .ror, .rcl, .rcr, .rclWholeTurn, .rcrWholeTurn: RFLAGS.of
    case .mul, .imul, .imulTruncating: RFLAGS.sf | RFLAGS.zf | RFLAGS.af | RFLAGS.pf
    case .div, .idiv: RFLAGS.arithmetic
    case .bsf, .bsr, .bsfZero, .bsrZero: RFLAGS.arithmetic & ~RFLAGS.zf
    case .tzcnt, .lzcnt, .bitTest: RFLAGS.of | RFLAGS.sf | RFLAGS.af | RFLAGS.pf
    case .bextr: RFLAGS.sf | RFLAGS.af | RFLAGS.pf
    case .blsi, .blsmsk, .blsr, .bzhi: RFLAGS.af | RFLAGS.pf
    case .andn: RFLAGS.af | RFLAGS.pf
    case .logic: RFLAGS.af
    }
  }

  /// The instructions, for whoever has them decoded.
  var mnemonics: [ZydisMnemonic] {
    switch self {
    case .shl: [ZYDIS_MNEMONIC_SHL]
    case .shr: [ZYDIS_MNEMONIC_SHR]
    case .sar: [ZYDIS_MNEMONIC_SAR]
    case .rol: [ZYDIS_MNEMONIC_ROL]
    case .ror: [ZYDIS_MNEMONIC_ROR]
    case .rcl, .rclWholeTurn: [ZYDIS_MNEMONIC_RCL]
    case .rcr, .rcrWholeTurn: [ZYDIS_MNEMONIC_RCR]
    case .shld: [ZYDIS_MNEMONIC_SHLD]
    case .shrd: [ZYDIS_MNEMONIC_SHRD]
    case .mul: [ZYDIS_MNEMONIC_MUL]
    case .imul, .imulTruncating: [ZYDIS_MNEMONIC_IMUL]
    case .div: [ZYDIS_MNEMONIC_DIV]
    case .idiv: [ZYDIS_MNEMONIC_IDIV]
    case .bsf, .bsfZero: [ZYDIS_MNEMONIC_BSF]
    case .bsr, .bsrZero: [ZYDIS_MNEMONIC_BSR]
    case .tzcnt: [ZYDIS_MNEMONIC_TZCNT]
    case .lzcnt: [ZYDIS_MNEMONIC_LZCNT]
    case .bitTest: [ZYDIS_MNEMONIC_BT, ZYDIS_MNEMONIC_BTS, ZYDIS_MNEMONIC_BTR, ZYDIS_MNEMONIC_BTC]
    case .bextr: [ZYDIS_MNEMONIC_BEXTR]
    case .blsi: [ZYDIS_MNEMONIC_BLSI]
    case .blsmsk: [ZYDIS_MNEMONIC_BLSMSK]
    case .blsr: [ZYDIS_MNEMONIC_BLSR]
    case .bzhi: [ZYDIS_MNEMONIC_BZHI]
    case .andn: [ZYDIS_MNEMONIC_ANDN]
    case .logic: [ZYDIS_MNEMONIC_AND, ZYDIS_MNEMONIC_OR, ZYDIS_MNEMONIC_XOR, ZYDIS_MNEMONIC_TEST]
    }
  }
}
