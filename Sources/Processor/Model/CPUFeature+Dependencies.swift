/// Which features are built on which. A processor without XSAVE cannot have AVX, so whoever removes the one removes the
/// other, and whoever adds the other adds the one.
extension CPUFeature {
  private static let requirements: [CPUFeature: [CPUFeature]] = [
    // Vector and floating-point units.
    .mmx: [.fpu], .fxsr: [.fpu], .sse: [.fxsr, .mmx], .sse2: [.sse], .sse3: [.sse2], .ssse3: [.sse3], .sse41: [.ssse3],
    .sse42: [.sse41], .aes: [.sse2], .pclmulqdq: [.sse2], .sha: [.sse2], .fastFXSR: [.fxsr],
    .xsave: [.fxsr], .xsaveopt: [.xsave], .xsavec: [.xsave], .xgetbv1: [.xsave], .xsaves: [.xsavec],
    .avx: [.xsave, .sse42], .avx2: [.avx], .fma: [.avx], .f16c: [.avx], .vaes: [.avx, .aes],
    .vpclmulqdq: [.avx, .pclmulqdq],
    // Model-specific registers, and what is controlled by them.
    .mce: [.msr], .mca: [.mce], .sep: [.msr], .mtrr: [.msr], .pat: [.msr], .apic: [.msr], .x2apic: [.apic],
    .timeStampAdjust: [.tsc, .msr], .timeStampDeadline: [.apic, .tsc], .alwaysRunningTimer: [.apic],
    .kvmClock: [.hypervisor, .tsc, .msr],
    .invariantTSC: [.tsc], .rdtscp: [.tsc, .msr], .rdpid: [.msr], .speculationControl: [.msr],
    .architecturalCapabilities: [.msr], .automaticIBRS: [.msr], .syscall: [.msr],
    // Paging and long mode.
    .pse36: [.pse], .nx: [.pae, .msr], .longMode: [.pae, .msr], .pcid: [.longMode],
    .gigabytePages: [.longMode], .la57: [.longMode], .lam: [.longMode], .fsgsbase: [.longMode], .lahf64: [.longMode],
    .cmpxchg16b: [.longMode, .cmpxchg8b], .pku: [.longMode, .xsave], .pks: [.longMode],
    .clflushopt: [.clflush], .clwb: [.clflush],
  ]

  private static let reversed: [CPUFeature: [CPUFeature]] = {
    var result: [CPUFeature: [CPUFeature]] = [:]
    for (feature, needed) in requirements { for one in needed { result[one, default: []].append(feature) } }
    return result
  }()

  /// What this feature needs directly.
  var prerequisites: [CPUFeature] { Self.requirements[self] ?? [] }

  /// What needs this feature directly.
  var dependents: [CPUFeature] { Self.reversed[self] ?? [] }
}
