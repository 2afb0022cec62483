/// The named models, as data.
extension CPUModel {
  /// What a name stands for.
  struct Definition: Sendable {
    /// Family, model and stepping, as Intel's and as AMD's.
    var intel: Identity
    var amd: Identity
    var features: CPUFeatureSet
    var physicalAddressBits: UInt64
    /// CPUID's last basic leaf, and whether it has extended ones; features beyond them raise both.
    var lastBasicLeaf: UInt32
    var hasExtendedLeaves = true
  }

  struct Identity: Equatable, Sendable {
    var family: UInt32
    var model: UInt32
    var stepping: UInt32
  }

  /// Of the processors without long mode, the 486 is a late one: it has the CPUID instruction.
  static func definition(of level: Level) -> Definition {
    switch level {
    case .i486:
      Definition(
        intel: Identity(family: 4, model: 8, stepping: 0), amd: Identity(family: 4, model: 15, stepping: 4),
        features: i486Features, physicalAddressBits: 32, lastBasicLeaf: 1, hasExtendedLeaves: false)
    case .pentium:
      Definition(
        intel: Identity(family: 5, model: 2, stepping: 12), amd: Identity(family: 5, model: 1, stepping: 1),
        features: pentiumFeatures, physicalAddressBits: 32, lastBasicLeaf: 1, hasExtendedLeaves: false)
    case .v1:
      Definition(
        intel: Identity(family: 6, model: 15, stepping: 11), amd: Identity(family: 15, model: 65, stepping: 2),
        features: level1Features, physicalAddressBits: 40, lastBasicLeaf: 0x16)
    case .v2: standardDefinition(level2Features)
    case .v3: standardDefinition(level2Features.union(level3Additions))
    case .max:
      standardDefinition(level2Features.union(level3Additions).union(maximumAdditions), physicalAddressBits: 46)
    }
  }

  private static func standardDefinition(_ features: CPUFeatureSet, physicalAddressBits: UInt64 = 40) -> Definition {
    Definition(
      intel: Identity(family: 6, model: 44, stepping: 2), amd: Identity(family: 26, model: 2, stepping: 1),
      features: features, physicalAddressBits: physicalAddressBits, lastBasicLeaf: 0x16)
  }

  private static let i486Features: CPUFeatureSet = [.fpu, .vme]

  private static let pentiumFeatures: CPUFeatureSet = [
    .fpu, .vme, .de, .pse, .tsc, .msr, .mce, .cmpxchg8b, .apic,
  ]

  /// The psABI's baseline, what every such processor had besides, and what spares a virtual machine exits.
  private static let level1Features: CPUFeatureSet = [
    .fpu, .vme, .de, .pse, .tsc, .msr, .pae, .mce, .cmpxchg8b, .apic, .sep, .mtrr, .pge, .mca, .cmov, .pat, .pse36,
    .clflush, .mmx, .fxsr, .sse, .sse2,
    .x2apic, .timeStampDeadline, .hypervisor, .kvmClock, .alwaysRunningTimer,
    .syscall, .nx, .longMode, .invariantTSC,
  ]

  /// x86-64-v2, and what of later processors costs nothing to emulate.
  private static let level2Features = level1Features.union([
    .sse3, .pclmulqdq, .ssse3, .cmpxchg16b, .pcid, .sse41, .sse42, .movbe, .popcnt, .aes, .xsave, .rdrand,
    .fsgsbase, .timeStampAdjust, .bmi1, .smep, .bmi2, .erms, .invpcid, .rdseed, .adx, .smap, .clflushopt, .clwb, .sha,
    .umip, .rdpid, .fsrm,
    .xsaveopt, .xsavec, .xgetbv1,
    .lahf64, .lzcnt, .prefetchw,
    .gigabytePages, .rdtscp,
  ])

  private static let level3Additions: CPUFeatureSet = [.avx, .avx2, .fma, .f16c]

  /// Everything else that is implemented.
  private static let maximumAdditions: CPUFeatureSet = [
    .vaes, .vpclmulqdq, .la57, .lam, .pku, .pks, .serialize, .xsaves, .wbnoinvd, .monitor, .fastFXSR,
  ]

  /// What only one vendor's processors say, all of them from x86-64 on.
  static let intelOnly: CPUFeatureSet = [.selfSnoop, .speculationControl, .architecturalCapabilities]

  static let amdOnly: CPUFeatureSet = [
    .topologyExtensions, .lfenceSerializing, .nullSelectorClearsBase, .automaticIBRS,
  ]

  /// What AMD's processors have in another way.
  static let neverAMD: CPUFeatureSet = [.lam]
}
