/// Features by the names that Linux's /proc/cpuinfo gives them (CPUID's own names where Linux has none).
///
/// The list is that of all features that a guest can be given or refused: what is implemented. What CPUID reports by
/// the processor's state alone (OSXSAVE, OSPKE, HTT) is not in it.
extension CPUFeature {
  static let named: [(name: String, feature: CPUFeature)] = [
    ("fpu", .fpu), ("vme", .vme), ("de", .de), ("pse", .pse), ("tsc", .tsc), ("msr", .msr), ("pae", .pae),
    ("mce", .mce), ("cx8", .cmpxchg8b), ("apic", .apic), ("sep", .sep), ("mtrr", .mtrr), ("pge", .pge),
    ("mca", .mca), ("cmov", .cmov), ("pat", .pat), ("pse36", .pse36), ("clflush", .clflush), ("mmx", .mmx),
    ("fxsr", .fxsr), ("sse", .sse), ("sse2", .sse2), ("ss", .selfSnoop),
    ("pni", .sse3), ("pclmulqdq", .pclmulqdq), ("monitor", .monitor), ("ssse3", .ssse3), ("fma", .fma),
    ("cx16", .cmpxchg16b), ("pcid", .pcid), ("sse4_1", .sse41), ("sse4_2", .sse42), ("x2apic", .x2apic),
    ("movbe", .movbe), ("popcnt", .popcnt), ("tsc_deadline_timer", .timeStampDeadline), ("aes", .aes),
    ("xsave", .xsave), ("avx", .avx), ("f16c", .f16c), ("rdrand", .rdrand), ("hypervisor", .hypervisor),
    ("kvmclock", .kvmClock),
    ("arat", .alwaysRunningTimer),
    ("fsgsbase", .fsgsbase), ("tsc_adjust", .timeStampAdjust), ("bmi1", .bmi1), ("avx2", .avx2), ("smep", .smep),
    ("bmi2", .bmi2), ("erms", .erms), ("invpcid", .invpcid), ("rdseed", .rdseed), ("adx", .adx), ("smap", .smap),
    ("clflushopt", .clflushopt), ("clwb", .clwb), ("sha_ni", .sha),
    ("umip", .umip), ("pku", .pku), ("vaes", .vaes), ("vpclmulqdq", .vpclmulqdq), ("la57", .la57), ("rdpid", .rdpid),
    ("pks", .pks),
    ("fsrm", .fsrm), ("serialize", .serialize), ("spec_ctrl", .speculationControl),
    ("arch_capabilities", .architecturalCapabilities),
    ("lam", .lam),
    ("xsaveopt", .xsaveopt), ("xsavec", .xsavec), ("xgetbv1", .xgetbv1), ("xsaves", .xsaves),
    ("lahf_lm", .lahf64), ("abm", .lzcnt), ("3dnowprefetch", .prefetchw), ("topoext", .topologyExtensions),
    ("syscall", .syscall), ("nx", .nx), ("fxsr_opt", .fastFXSR), ("pdpe1gb", .gigabytePages), ("rdtscp", .rdtscp),
    ("lm", .longMode), ("nonstop_tsc", .invariantTSC), ("wbnoinvd", .wbnoinvd),
    ("lfence_rdtsc", .lfenceSerializing), ("nscb", .nullSelectorClearsBase), ("autoibrs", .automaticIBRS),
  ]

  /// Other names in use.
  private static let aliases: [String: String] = [
    "sse3": "pni", "sse4.1": "sse4_1", "sse4.2": "sse4_2", "sha": "sha_ni", "lzcnt": "abm",
    "prefetchw": "3dnowprefetch", "cmpxchg8b": "cx8", "cmpxchg16b": "cx16", "tsc_deadline": "tsc_deadline_timer",
    "tsc-deadline": "tsc_deadline_timer", "arch-capabilities": "arch_capabilities", "lahf": "lahf_lm",
  ]

  private static let byName = Dictionary(uniqueKeysWithValues: named.map { ($0.name, $0.feature) })
  private static let names = Dictionary(uniqueKeysWithValues: named.map { ($0.feature, $0.name) })

  /// Nil for a name that is unknown, and for a feature that is not implemented.
  init?(named name: String) {
    guard let feature = Self.byName[Self.aliases[name] ?? name] else { return nil }
    self = feature
  }

  /// Nil for what is not in `named`.
  var name: String? { Self.names[self] }
}
