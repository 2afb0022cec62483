import CZydis

/// Which instructions exist: the decoder's gate, by Zydis's instruction sets.
extension CPUModel {
  /// What an instruction set needs.
  enum Requirement: Hashable, Sendable {
    case always
    case feature(CPUFeature)
    /// That family or a later one.
    case family(UInt32)
    case vendor(Vendor)
    case never

    /// In words: a feature's name, a family, a vendor. Nil: nothing is needed.
    var name: String? {
      switch self {
      case .always: nil
      case .feature(let feature): feature.name
      case .family(let family): "family \(family) or later"
      case .vendor(let vendor): vendor.rawValue
      case .never: "no model"
      }
    }
  }

  /// Whether the decoded instruction is offered; #UD otherwise.
  func offers(_ instruction: UnsafePointer<ZydisDecodedInstruction>) -> Bool {
    meets(Self.requirement(of: instruction))
  }

  /// Whether instructions of the set are offered, but for those that have a rule of their own.
  func offers(_ isaSet: ZydisISASet) -> Bool { meets(Self.requirements[Int(isaSet.rawValue)] ?? .never) }

  func meets(_ requirement: Requirement) -> Bool {
    switch requirement {
    case .always: true
    case .feature(let feature): features.contains(feature)
    case .family(let family): identity.family >= family
    case .vendor(let vendor): vendor == self.vendor
    case .never: false
    }
  }

  static func requirement(of instruction: UnsafePointer<ZydisDecodedInstruction>) -> Requirement {
    exception(instruction) ?? requirements[Int(instruction.pointee.meta.isa_set.rawValue)] ?? .never
  }

  /// Instructions that Zydis lists with others that came at the same time, but that have a CPUID bit of their own.
  private static func exception(_ instruction: UnsafePointer<ZydisDecodedInstruction>) -> Requirement? {
    switch instruction.pointee.mnemonic {
    case ZYDIS_MNEMONIC_RDTSC: .feature(.tsc)
    case ZYDIS_MNEMONIC_RDMSR, ZYDIS_MNEMONIC_WRMSR: .feature(.msr)
    case ZYDIS_MNEMONIC_CMPXCHG8B: .feature(.cmpxchg8b)
    case ZYDIS_MNEMONIC_SYSENTER, ZYDIS_MNEMONIC_SYSEXIT: .feature(.sep)
    case ZYDIS_MNEMONIC_FCOMI, ZYDIS_MNEMONIC_FCOMIP, ZYDIS_MNEMONIC_FUCOMI, ZYDIS_MNEMONIC_FUCOMIP: .feature(.cmov)
    // LAHF and SAHF are always there outside 64-bit mode.
    case ZYDIS_MNEMONIC_LAHF, ZYDIS_MNEMONIC_SAHF:
      instruction.pointee.machine_mode == ZYDIS_MACHINE_MODE_LONG_64 ? nil : .always
    default: nil
    }
  }

  /// Sets that the table says nothing of; none, which a test makes sure of.
  static var unlistedInstructionSets: [UInt32] {
    (1...ZYDIS_ISA_SET_MAX_VALUE.rawValue).filter { requirements[Int($0)] == nil }
  }

  private static let requirements: [Requirement?] = {
    var table = [Requirement?](repeating: nil, count: Int(ZYDIS_ISA_SET_MAX_VALUE.rawValue) + 1)
    for set in always { table[Int(set.rawValue)] = .always }
    for set in family6 { table[Int(set.rawValue)] = .family(6) }
    for set in never { table[Int(set.rawValue)] = .never }
    for (set, feature) in byFeature { table[Int(set.rawValue)] = .feature(feature) }
    // SYSCALL and SYSRET outside 64-bit mode.
    table[Int(ZYDIS_ISA_SET_AMD.rawValue)] = .vendor(.amd)
    // AVX-512 and its many parts.
    let first = Int(ZYDIS_ISA_SET_AVX512BW_128.rawValue)
    for index in first...Int(ZYDIS_ISA_SET_AVX512_VPOPCNTDQ_512.rawValue) { table[index] = .never }
    return table
  }()

  /// Instructions of the Pentium Pro; and what lies in its space of hint NOPs, where an instruction of a missing
  /// feature does nothing: CET's ENDBR and RDSSP (the others of CET have no rows), MPX, CLDEMOTE, prefetches.
  private static let family6: [ZydisISASet] = [
    ZYDIS_ISA_SET_PPRO, ZYDIS_ISA_SET_FAT_NOP, ZYDIS_ISA_SET_RDPMC, ZYDIS_ISA_SET_CET, ZYDIS_ISA_SET_MPX,
    ZYDIS_ISA_SET_CLDEMOTE, ZYDIS_ISA_SET_PREFETCH_NOP, ZYDIS_ISA_SET_PREFETCHWT1,
  ]

  /// The base instruction set.
  private static let always: [ZydisISASet] = [
    ZYDIS_ISA_SET_I86, ZYDIS_ISA_SET_I186, ZYDIS_ISA_SET_I286PROTECTED, ZYDIS_ISA_SET_I286REAL, ZYDIS_ISA_SET_I386,
    ZYDIS_ISA_SET_I486, ZYDIS_ISA_SET_I486REAL, ZYDIS_ISA_SET_PENTIUMREAL, ZYDIS_ISA_SET_PAUSE,
    // Hypercalls: VMCALL is listed with VMX and VMMCALL with SVM, whose other instructions have no rows.
    ZYDIS_ISA_SET_VTX, ZYDIS_ISA_SET_SVM,
  ]

  private static let byFeature: [(ZydisISASet, CPUFeature)] = [
    (ZYDIS_ISA_SET_ADOX_ADCX, .adx), (ZYDIS_ISA_SET_AES, .aes), (ZYDIS_ISA_SET_AVX, .avx),
    (ZYDIS_ISA_SET_AVX2, .avx2), (ZYDIS_ISA_SET_AVX2GATHER, .avx2), (ZYDIS_ISA_SET_AVXAES, .avx),
    (ZYDIS_ISA_SET_BMI1, .bmi1), (ZYDIS_ISA_SET_BMI2, .bmi2), (ZYDIS_ISA_SET_CLFLUSHOPT, .clflushopt),
    (ZYDIS_ISA_SET_CLFSH, .clflush), (ZYDIS_ISA_SET_CLWB, .clwb), (ZYDIS_ISA_SET_CMOV, .cmov),
    (ZYDIS_ISA_SET_CMPXCHG16B, .cmpxchg16b), (ZYDIS_ISA_SET_F16C, .f16c), (ZYDIS_ISA_SET_FCMOV, .cmov),
    (ZYDIS_ISA_SET_FMA, .fma), (ZYDIS_ISA_SET_FXSAVE, .fxsr), (ZYDIS_ISA_SET_FXSAVE64, .fxsr),
    (ZYDIS_ISA_SET_INVPCID, .invpcid), (ZYDIS_ISA_SET_LAHF, .lahf64), (ZYDIS_ISA_SET_LONGMODE, .longMode),
    (ZYDIS_ISA_SET_LZCNT, .lzcnt), (ZYDIS_ISA_SET_MONITOR, .monitor), (ZYDIS_ISA_SET_MOVBE, .movbe),
    (ZYDIS_ISA_SET_PCLMULQDQ, .pclmulqdq), (ZYDIS_ISA_SET_PENTIUMMMX, .mmx), (ZYDIS_ISA_SET_PKU, .pku),
    (ZYDIS_ISA_SET_POPCNT, .popcnt), (ZYDIS_ISA_SET_RDPID, .rdpid), (ZYDIS_ISA_SET_RDRAND, .rdrand),
    (ZYDIS_ISA_SET_RDSEED, .rdseed), (ZYDIS_ISA_SET_RDTSCP, .rdtscp), (ZYDIS_ISA_SET_RDWRFSGS, .fsgsbase),
    (ZYDIS_ISA_SET_SERIALIZE, .serialize), (ZYDIS_ISA_SET_SHA, .sha), (ZYDIS_ISA_SET_SMAP, .smap),
    (ZYDIS_ISA_SET_SSE, .sse), (ZYDIS_ISA_SET_SSE2, .sse2), (ZYDIS_ISA_SET_SSE2MMX, .sse2),
    (ZYDIS_ISA_SET_SSE3, .sse3), (ZYDIS_ISA_SET_SSE3X87, .sse3), (ZYDIS_ISA_SET_SSE4, .sse41),
    (ZYDIS_ISA_SET_SSE42, .sse42), (ZYDIS_ISA_SET_SSE4A, .sse4a), (ZYDIS_ISA_SET_SSEMXCSR, .sse),
    (ZYDIS_ISA_SET_SSE_PREFETCH, .sse), (ZYDIS_ISA_SET_SSSE3, .ssse3), (ZYDIS_ISA_SET_SSSE3MMX, .ssse3),
    (ZYDIS_ISA_SET_VAES, .vaes), (ZYDIS_ISA_SET_VPCLMULQDQ, .vpclmulqdq), (ZYDIS_ISA_SET_X87, .fpu),
    (ZYDIS_ISA_SET_XSAVE, .xsave), (ZYDIS_ISA_SET_XSAVEC, .xsavec), (ZYDIS_ISA_SET_XSAVEOPT, .xsaveopt),
    (ZYDIS_ISA_SET_XSAVES, .xsaves),
  ]

  private static let never: [ZydisISASet] = [
    ZYDIS_ISA_SET_AMD3DNOW, ZYDIS_ISA_SET_AMD_INVLPGB, ZYDIS_ISA_SET_AMX_BF16, ZYDIS_ISA_SET_AMX_INT8,
    ZYDIS_ISA_SET_AMX_TILE, ZYDIS_ISA_SET_AVX_GFNI, ZYDIS_ISA_SET_AVX_VNNI, ZYDIS_ISA_SET_CLZERO,
    ZYDIS_ISA_SET_ENQCMD, ZYDIS_ISA_SET_FMA4, ZYDIS_ISA_SET_GFNI, ZYDIS_ISA_SET_HRESET, ZYDIS_ISA_SET_KEYLOCKER,
    ZYDIS_ISA_SET_KEYLOCKER_WIDE, ZYDIS_ISA_SET_KNCE, ZYDIS_ISA_SET_KNCJKBR, ZYDIS_ISA_SET_KNCSTREAM,
    ZYDIS_ISA_SET_KNCV, ZYDIS_ISA_SET_KNC_MISC, ZYDIS_ISA_SET_KNC_PF_HINT, ZYDIS_ISA_SET_LWP,
    ZYDIS_ISA_SET_MCOMMIT, ZYDIS_ISA_SET_MONITORX, ZYDIS_ISA_SET_MOVDIR, ZYDIS_ISA_SET_PADLOCK_ACE,
    ZYDIS_ISA_SET_PADLOCK_PHE, ZYDIS_ISA_SET_PADLOCK_PMM, ZYDIS_ISA_SET_PADLOCK_RNG, ZYDIS_ISA_SET_PCONFIG,
    ZYDIS_ISA_SET_PT, ZYDIS_ISA_SET_RDPRU, ZYDIS_ISA_SET_RTM, ZYDIS_ISA_SET_SGX, ZYDIS_ISA_SET_SGX_ENCLV,
    ZYDIS_ISA_SET_SMX, ZYDIS_ISA_SET_SNP, ZYDIS_ISA_SET_TBM, ZYDIS_ISA_SET_TDX, ZYDIS_ISA_SET_TSX_LDTRK,
    ZYDIS_ISA_SET_UINTR, ZYDIS_ISA_SET_VMFUNC, ZYDIS_ISA_SET_WAITPKG, ZYDIS_ISA_SET_XOP,
  ]
}
