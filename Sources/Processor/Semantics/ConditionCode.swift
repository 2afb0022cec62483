import CZydis

/// Condition codes as instructions encode them (SDM vol. 1, appendix B), and the mnemonics that carry one.
enum ConditionCode {
  /// In encoding order: O NO B NB Z NZ BE NBE S NS P NP L NL LE NLE.
  static let jumps: [ZydisMnemonic] = [
    ZYDIS_MNEMONIC_JO, ZYDIS_MNEMONIC_JNO, ZYDIS_MNEMONIC_JB, ZYDIS_MNEMONIC_JNB, ZYDIS_MNEMONIC_JZ,
    ZYDIS_MNEMONIC_JNZ, ZYDIS_MNEMONIC_JBE, ZYDIS_MNEMONIC_JNBE, ZYDIS_MNEMONIC_JS, ZYDIS_MNEMONIC_JNS,
    ZYDIS_MNEMONIC_JP, ZYDIS_MNEMONIC_JNP, ZYDIS_MNEMONIC_JL, ZYDIS_MNEMONIC_JNL, ZYDIS_MNEMONIC_JLE,
    ZYDIS_MNEMONIC_JNLE,
  ]

  static let sets: [ZydisMnemonic] = [
    ZYDIS_MNEMONIC_SETO, ZYDIS_MNEMONIC_SETNO, ZYDIS_MNEMONIC_SETB, ZYDIS_MNEMONIC_SETNB, ZYDIS_MNEMONIC_SETZ,
    ZYDIS_MNEMONIC_SETNZ, ZYDIS_MNEMONIC_SETBE, ZYDIS_MNEMONIC_SETNBE, ZYDIS_MNEMONIC_SETS, ZYDIS_MNEMONIC_SETNS,
    ZYDIS_MNEMONIC_SETP, ZYDIS_MNEMONIC_SETNP, ZYDIS_MNEMONIC_SETL, ZYDIS_MNEMONIC_SETNL, ZYDIS_MNEMONIC_SETLE,
    ZYDIS_MNEMONIC_SETNLE,
  ]

  static let moves: [ZydisMnemonic] = [
    ZYDIS_MNEMONIC_CMOVO, ZYDIS_MNEMONIC_CMOVNO, ZYDIS_MNEMONIC_CMOVB, ZYDIS_MNEMONIC_CMOVNB, ZYDIS_MNEMONIC_CMOVZ,
    ZYDIS_MNEMONIC_CMOVNZ, ZYDIS_MNEMONIC_CMOVBE, ZYDIS_MNEMONIC_CMOVNBE, ZYDIS_MNEMONIC_CMOVS,
    ZYDIS_MNEMONIC_CMOVNS, ZYDIS_MNEMONIC_CMOVP, ZYDIS_MNEMONIC_CMOVNP, ZYDIS_MNEMONIC_CMOVL,
    ZYDIS_MNEMONIC_CMOVNL, ZYDIS_MNEMONIC_CMOVLE, ZYDIS_MNEMONIC_CMOVNLE,
  ]

  /// The condition code of a mnemonic, or nil. Looked up once for each decoded instruction.
  static func code(of mnemonic: ZydisMnemonic) -> UInt16? {
    let code = codes[Int(mnemonic.rawValue)]
    return code < 16 ? UInt16(code) : nil
  }

  private static let codes: [UInt8] = {
    var codes = [UInt8](repeating: 255, count: Int(ZYDIS_MNEMONIC_MAX_VALUE.rawValue) + 1)
    for family in [jumps, sets, moves] {
      for (code, mnemonic) in family.enumerated() { codes[Int(mnemonic.rawValue)] = UInt8(code) }
    }
    return codes
  }()
}
