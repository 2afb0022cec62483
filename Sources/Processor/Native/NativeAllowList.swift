import CZydis

/// The only instructions that are ever executed on behalf of the guest by the host itself.
///
/// A mnemonic is here because all its forms touch nothing but vector, MMX or x87 registers, the general registers that
/// are its explicit operands, arithmetic flags, and at most one explicit memory operand. Gathers and MASKMOVDQU are not
/// (see `MaskedMoves`). `NativeForm` then refuses any form with an operand that it does not
/// know how to replace.
enum NativeAllowList {
  enum Group: UInt8 {
    case legacy = 1
    case vex = 2
    case x87 = 4
    case x87Control = 8
  }

  static func allows(_ mnemonic: ZydisMnemonic, in group: Group) -> Bool {
    groups[Int(mnemonic.rawValue)] & group.rawValue != 0
  }

  /// Groups of each mnemonic. MOVSD and CMPSD are strings of doublewords too: their ISA set tells.
  private static let groups: [UInt8] = {
    var groups = [UInt8](repeating: 0, count: Int(ZYDIS_MNEMONIC_MAX_VALUE.rawValue) + 1)
    var names: [String: Int] = [:]
    for number in groups.indices {
      guard let name = ZydisMnemonicGetString(ZydisMnemonic(rawValue: UInt32(number))) else { continue }
      names[String(cString: name)] = number
    }
    let lists: [(Group, String)] = [(.legacy, legacy), (.vex, vex), (.x87, x87), (.x87Control, x87Control)]
    for (group, list) in lists {
      for name in list.split(whereSeparator: \.isWhitespace) {
        guard let number = names[String(name)] else { preconditionFailure("Zydis does not know \(name)") }
        groups[number] |= group.rawValue
      }
    }
    return groups
  }()

  /// Whether a memory operand of `size` bytes must be aligned to its size.
  static func needsAlignment(_ mnemonic: ZydisMnemonic, size: Int, isVEX: Bool) -> Bool {
    isVEX ? wantsAlignment(mnemonic) : size == 16 && !toleratesMisalignment(mnemonic)
  }

  /// Memory operands of 16 bytes without VEX prefix must be aligned, but not those of these.
  private static func toleratesMisalignment(_ mnemonic: ZydisMnemonic) -> Bool {
    switch mnemonic {
    case ZYDIS_MNEMONIC_MOVUPS, ZYDIS_MNEMONIC_MOVUPD, ZYDIS_MNEMONIC_MOVDQU, ZYDIS_MNEMONIC_LDDQU,
      ZYDIS_MNEMONIC_PCMPESTRI, ZYDIS_MNEMONIC_PCMPESTRM, ZYDIS_MNEMONIC_PCMPISTRI, ZYDIS_MNEMONIC_PCMPISTRM:
      true
    default: false
    }
  }

  /// With a VEX prefix only these want alignment, to the size of their memory operand.
  private static func wantsAlignment(_ mnemonic: ZydisMnemonic) -> Bool {
    switch mnemonic {
    case ZYDIS_MNEMONIC_VMOVAPS, ZYDIS_MNEMONIC_VMOVAPD, ZYDIS_MNEMONIC_VMOVDQA, ZYDIS_MNEMONIC_VMOVNTPS,
      ZYDIS_MNEMONIC_VMOVNTPD, ZYDIS_MNEMONIC_VMOVNTDQ, ZYDIS_MNEMONIC_VMOVNTDQA:
      true
    default: false
    }
  }

  /// The string comparisons have EAX, EDX and ECX as implicit operands, and set OF.
  static func comparesStrings(_ mnemonic: ZydisMnemonic) -> Bool {
    switch mnemonic {
    case ZYDIS_MNEMONIC_PCMPESTRI, ZYDIS_MNEMONIC_PCMPESTRM, ZYDIS_MNEMONIC_PCMPISTRI, ZYDIS_MNEMONIC_PCMPISTRM,
      ZYDIS_MNEMONIC_VPCMPESTRI, ZYDIS_MNEMONIC_VPCMPESTRM, ZYDIS_MNEMONIC_VPCMPISTRI, ZYDIS_MNEMONIC_VPCMPISTRM:
      true
    default: false
    }
  }

  /// MMX, SSE to SSE4.2, AES, PCLMULQDQ, SHA.
  private static let legacy = """
    addpd addps addsd addss addsubpd addsubps aesdec aesdeclast aesenc aesenclast aesimc aeskeygenassist andnpd
    andnps andpd andps blendpd blendps blendvpd blendvps cmppd cmpps cmpsd cmpss comisd comiss cvtdq2pd cvtdq2ps
    cvtpd2dq cvtpd2pi cvtpd2ps cvtpi2pd cvtpi2ps cvtps2dq cvtps2pd cvtps2pi cvtsd2si cvtsd2ss cvtsi2sd cvtsi2ss
    cvtss2sd cvtss2si cvttpd2dq cvttpd2pi cvttps2dq cvttps2pi cvttsd2si cvttss2si divpd divps divsd divss dppd dpps
    emms extractps haddpd haddps hsubpd hsubps insertps lddqu maxpd maxps maxsd maxss minpd minps minsd minss movapd
    movaps movd movddup movdq2q movdqa movdqu movhlps movhpd movhps movlhps movlpd movlps movmskpd movmskps movntdq
    movntdqa movntpd movntps movntq movq movq2dq movsd movshdup movsldup movss movupd movups mpsadbw mulpd mulps
    mulsd mulss orpd orps pabsb pabsd pabsw packssdw packsswb packusdw packuswb paddb paddd paddq paddsb paddsw
    paddusb paddusw paddw palignr pand pandn pavgb pavgw pblendvb pblendw pclmulqdq pcmpeqb pcmpeqd pcmpeqq pcmpeqw
    pcmpestri pcmpestrm pcmpgtb pcmpgtd pcmpgtq pcmpgtw pcmpistri pcmpistrm pextrb pextrd pextrq pextrw phaddd
    phaddsw phaddw phminposuw phsubd phsubsw phsubw pinsrb pinsrd pinsrq pinsrw pmaddubsw pmaddwd pmaxsb pmaxsd
    pmaxsw pmaxub pmaxud pmaxuw pminsb pminsd pminsw pminub pminud pminuw pmovmskb pmovsxbd pmovsxbq pmovsxbw
    pmovsxdq pmovsxwd pmovsxwq pmovzxbd pmovzxbq pmovzxbw pmovzxdq pmovzxwd pmovzxwq pmuldq pmulhrsw pmulhuw pmulhw
    pmulld pmullw pmuludq por psadbw pshufb pshufd pshufhw pshuflw pshufw psignb psignd psignw pslld pslldq psllq
    psllw psrad psraw psrld psrldq psrlq psrlw psubb psubd psubq psubsb psubsw psubusb psubusw psubw ptest punpckhbw
    punpckhdq punpckhqdq punpckhwd punpcklbw punpckldq punpcklqdq punpcklwd pxor rcpps rcpss roundpd roundps roundsd
    roundss rsqrtps rsqrtss sha1msg1 sha1msg2 sha1nexte sha1rnds4 sha256msg1 sha256msg2 sha256rnds2 shufpd shufps
    sqrtpd sqrtps sqrtsd sqrtss subpd subps subsd subss ucomisd ucomiss unpckhpd unpckhps unpcklpd unpcklps xorpd
    xorps
    """

  /// AVX, AVX2, FMA, F16C, and the VEX forms of AES and PCLMULQDQ.
  private static let vex = """
    vaddpd vaddps vaddsd vaddss vaddsubpd vaddsubps vaesdec vaesdeclast vaesenc vaesenclast vaesimc vaeskeygenassist
    vandnpd vandnps vandpd vandps vblendpd vblendps vblendvpd vblendvps vbroadcastf128 vbroadcasti128 vbroadcastsd
    vbroadcastss vcmppd vcmpps vcmpsd vcmpss vcomisd vcomiss vcvtdq2pd vcvtdq2ps vcvtpd2dq vcvtpd2ps vcvtph2ps
    vcvtps2dq vcvtps2pd vcvtps2ph vcvtsd2si vcvtsd2ss vcvtsi2sd vcvtsi2ss vcvtss2sd vcvtss2si vcvttpd2dq vcvttps2dq
    vcvttsd2si vcvttss2si vdivpd vdivps vdivsd vdivss vdppd vdpps vextractf128 vextracti128 vextractps vfmadd132pd
    vfmadd132ps vfmadd132sd vfmadd132ss vfmadd213pd vfmadd213ps vfmadd213sd vfmadd213ss vfmadd231pd vfmadd231ps
    vfmadd231sd vfmadd231ss vfmaddsub132pd vfmaddsub132ps vfmaddsub213pd vfmaddsub213ps vfmaddsub231pd
    vfmaddsub231ps vfmsub132pd vfmsub132ps vfmsub132sd vfmsub132ss vfmsub213pd vfmsub213ps vfmsub213sd vfmsub213ss
    vfmsub231pd vfmsub231ps vfmsub231sd vfmsub231ss vfmsubadd132pd vfmsubadd132ps vfmsubadd213pd vfmsubadd213ps
    vfmsubadd231pd vfmsubadd231ps vfnmadd132pd vfnmadd132ps vfnmadd132sd vfnmadd132ss vfnmadd213pd vfnmadd213ps
    vfnmadd213sd vfnmadd213ss vfnmadd231pd vfnmadd231ps vfnmadd231sd vfnmadd231ss vfnmsub132pd vfnmsub132ps
    vfnmsub132sd vfnmsub132ss vfnmsub213pd vfnmsub213ps vfnmsub213sd vfnmsub213ss vfnmsub231pd vfnmsub231ps
    vfnmsub231sd vfnmsub231ss vhaddpd vhaddps vhsubpd vhsubps vinsertf128 vinserti128 vinsertps vlddqu vmaskmovpd
    vmaskmovps vmaxpd vmaxps vmaxsd vmaxss vminpd vminps vminsd vminss vmovapd vmovaps vmovd vmovddup vmovdqa
    vmovdqu vmovhlps vmovhpd vmovhps vmovlhps vmovlpd vmovlps vmovmskpd vmovmskps vmovntdq vmovntdqa vmovntpd
    vmovntps vmovq vmovsd vmovshdup vmovsldup vmovss vmovupd vmovups vmpsadbw vmulpd vmulps vmulsd vmulss vorpd
    vorps vpabsb vpabsd vpabsw vpackssdw vpacksswb vpackusdw vpackuswb vpaddb vpaddd vpaddq vpaddsb vpaddsw vpaddusb
    vpaddusw vpaddw vpalignr vpand vpandn vpavgb vpavgw vpblendd vpblendvb vpblendw vpbroadcastb vpbroadcastd
    vpbroadcastq vpbroadcastw vpclmulqdq vpcmpeqb vpcmpeqd vpcmpeqq vpcmpeqw vpcmpestri vpcmpestrm vpcmpgtb vpcmpgtd
    vpcmpgtq vpcmpgtw vpcmpistri vpcmpistrm vperm2f128 vperm2i128 vpermd vpermilpd vpermilps vpermpd vpermps vpermq
    vpextrb vpextrd vpextrq vpextrw vphaddd vphaddsw vphaddw vphminposuw vphsubd vphsubsw vphsubw vpinsrb vpinsrd
    vpinsrq vpinsrw vpmaddubsw vpmaddwd vpmaskmovd vpmaskmovq vpmaxsb vpmaxsd vpmaxsw vpmaxub vpmaxud vpmaxuw
    vpminsb vpminsd vpminsw vpminub vpminud vpminuw vpmovmskb vpmovsxbd vpmovsxbq vpmovsxbw vpmovsxdq vpmovsxwd
    vpmovsxwq vpmovzxbd vpmovzxbq vpmovzxbw vpmovzxdq vpmovzxwd vpmovzxwq vpmuldq vpmulhrsw vpmulhuw vpmulhw vpmulld
    vpmullw vpmuludq vpor vpsadbw vpshufb vpshufd vpshufhw vpshuflw vpsignb vpsignd vpsignw vpslld vpslldq vpsllq
    vpsllvd vpsllvq vpsllw vpsrad vpsravd vpsraw vpsrld vpsrldq vpsrlq vpsrlvd vpsrlvq vpsrlw vpsubb vpsubd vpsubq
    vpsubsb vpsubsw vpsubusb vpsubusw vpsubw vptest vpunpckhbw vpunpckhdq vpunpckhqdq vpunpckhwd vpunpcklbw
    vpunpckldq vpunpcklqdq vpunpcklwd vpxor vrcpps vrcpss vroundpd vroundps vroundsd vroundss vrsqrtps vrsqrtss
    vshufpd vshufps vsqrtpd vsqrtps vsqrtsd vsqrtss vsubpd vsubps vsubsd vsubss vtestpd vtestps vucomisd vucomiss
    vunpckhpd vunpckhps vunpcklpd vunpcklps vxorpd vxorps
    """

  /// x87 instructions that the instruction pointer follows.
  private static let x87 = """
    f2xm1 fabs fadd faddp fbld fbstp fchs fcmovb fcmovbe fcmove fcmovnb fcmovnbe fcmovne fcmovnu fcmovu fcom fcomi
    fcomip fcomp fcompp fcos fdecstp fdiv fdivp fdivr fdivrp ffree ffreep fiadd ficom ficomp fidiv fidivr fild fimul
    fincstp fist fistp fisttp fisub fisubr fld fld1 fldl2e fldl2t fldlg2 fldln2 fldpi fldz fmul fmulp fnop fpatan
    fprem fprem1 fptan frndint fscale fsin fsincos fsqrt fst fstp fstpnce fsub fsubp fsubr fsubrp ftst fucom fucomi
    fucomip fucomp fucompp fxam fxch fxtract fyl2x fyl2xp1
    """

  /// x87 instructions that neither wait nor move the instruction pointer.
  private static let x87Control = """
    fdisi8087_nop feni8087_nop fnclex fnstcw fnstsw fsetpm287_nop
    """
}
