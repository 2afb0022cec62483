import X86

/// What processor the guest sees: everything that CPUID, MSRs and the decoder's gates agree on.
///
/// **Which processor.** `standard` is a GenuineIntel family 6, model 44 (the generation that x86-64-v2 describes), with the
/// features of later processors that cost nothing to emulate and that a 64-bit Linux uses. Why that model: nothing in Linux
/// keys errata or vendor MSRs to it, and glibc selects the string functions that lean on REP MOVSB and STOSB for it, which
/// an emulator does by the page.
///
/// **Speculation.** This processor does not speculate, and says so in the ways that guests understand: ARCH_CAPABILITIES
/// reports all the `…_NO` bits, so Linux needs neither page-table isolation nor buffer clearing, and IBRS_ALL (with
/// IA32_SPEC_CTRL, which the latter implies), so that indirect branches stay plain instead of becoming retpolines: Linux
/// sets IBRS once and is done. As AMD the same is said by automatic IBRS.
///
/// **AVX** is off in `standard`: one line here decides.
public struct CPUModel: Sendable {
  public enum Vendor: String, Sendable, CaseIterable {
    case intel = "GenuineIntel"
    case amd = "AuthenticAMD"
  }

  /// Levels of the x86-64 psABI.
  public enum Level: Sendable, CaseIterable {
    /// Up to SSE4.2.
    case v2
    /// AVX, AVX2, FMA and F16C too.
    case v3
  }

  public let vendor: Vendor
  var features: CPUFeatureSet {
    didSet { deriveMasks() }
  }
  /// Width of physical addresses, at most 52.
  var physicalAddressBits: UInt64 = 40 {
    didSet { physicalAddressMask = (1 << physicalAddressBits) - 1 }
  }
  private(set) var physicalAddressMask: UInt64 = (1 << 40) - 1
  /// Whether page tables may map 1 GiB pages: the feature's bit, where the walk finds it at once.
  private(set) var hasGigabytePages = true
  /// Bits of CR4 and EFER that may be set, and components of XCR0.
  private(set) var controlRegister4Mask: UInt64 = 0
  private(set) var extendedFeatureMask: UInt64 = 0
  private(set) var extendedStateMask: UInt64 = 0

  /// The local APIC's number; below `processorCount`.
  public var apicID: UInt32
  /// Processors of the machine: cores of one package, without threads.
  public var processorCount: UInt32
  /// Frequency of the time-stamp counter in Hz; zero: the guest has to find out.
  public var timeStampFrequency: UInt64
  /// Frequency of the local APIC's timer before its divider, in Hz.
  public var apicTimerFrequency: UInt64
  /// VMCALL and VMMCALL are exits instead of #UD.
  public var offersHypercalls = true

  /// `timeStampFrequency` and `apicTimerFrequency` are the machine's clock's and its local APICs'.
  public init(
    vendor: Vendor = .intel, level: Level = Self.standardLevel, apicID: UInt32 = 0, processorCount: UInt32 = 1,
    timeStampFrequency: UInt64 = 0, apicTimerFrequency: UInt64 = 1_000_000_000
  ) {
    self.vendor = vendor
    self.apicID = apicID
    self.processorCount = processorCount
    self.timeStampFrequency = timeStampFrequency
    self.apicTimerFrequency = apicTimerFrequency
    features = Self.common.union(vendor == .intel ? Self.intelOnly : Self.amdOnly)
    if level == .v3 { features = features.union(Self.level3) }
    for feature in NativeFeatures.missing { features.remove(feature) }
    deriveMasks()
  }

  /// The default level: whether AVX is on.
  public static let standardLevel = Level.v2

  /// The default processor.
  public static let standard = CPUModel()

  // MARK: Identity

  var family: UInt32 { vendor == .intel ? 6 : 26 }
  var modelNumber: UInt32 { vendor == .intel ? 44 : 2 }
  var stepping: UInt32 { vendor == .intel ? 2 : 1 }
  /// At most 47 characters.
  var brand: String { "Ringside Virtual CPU" }

  /// As IA32_BIOS_SIGN_ID (AMD: PATCH_LEVEL) reports it.
  var microcodeRevision: UInt64 { vendor == .intel ? 1 << 32 : 1 }

  /// CPUID.1:EAX.
  public var signature: UInt32 {
    let baseFamily = min(family, 15)
    return stepping | (modelNumber & 15) << 4 | baseFamily << 8 | (modelNumber >> 4) << 16 | (family - baseFamily) << 20
  }

  // MARK: Fixed registers

  /// IA32_ARCH_CAPABILITIES: not vulnerable to Meltdown (RDCL), L1TF, speculative store bypass, MDS, machine check on
  /// page size change, TAA, MMIO stale data (three bits), BHI, PBRSB, GDS, RFDS and ITS; enhanced IBRS.
  var architecturalCapabilities: UInt64 {
    let bits: [UInt64] = [0, 1, 3, 4, 5, 6, 8, 13, 14, 15, 20, 24, 26, 27, 62]
    return bits.reduce(0) { $0 | 1 << $1 }
  }

  /// IA32_MCG_CAP: ten banks and IA32_MCG_CTL.
  var machineCheckCapabilities: UInt64 { UInt64(ModelSpecificRegister.machineCheckBankCount) | 1 << 8 }

  /// IA32_MTRRCAP: eight variable ranges, fixed ranges, write combining.
  static var mtrrCapabilities: UInt64 { 8 | 1 << 8 | 1 << 10 }

  /// Bits of IA32_MISC_ENABLE that are always set: no branch trace storage, no PEBS.
  static var miscellaneousEnableFixed: UInt64 { 1 << 11 | 1 << 12 }

  private mutating func deriveMasks() {
    func mask(_ bits: [(CPUFeature, UInt64)]) -> UInt64 {
      bits.reduce(0) { features.contains($1.0) ? $0 | $1.1 : $0 }
    }
    hasGigabytePages = features.contains(.gigabytePages)
    controlRegister4Mask =
      mask([
        (.vme, CR4.vme | CR4.pvi), (.tsc, CR4.tsd), (.de, CR4.de), (.pse, CR4.pse), (.pae, CR4.pae), (.mce, CR4.mce),
        (.pge, CR4.pge), (.fxsr, CR4.osfxsr), (.sse, CR4.osxmmexcpt), (.umip, CR4.umip), (.la57, CR4.la57),
        (.fsgsbase, CR4.fsgsbase), (.pcid, CR4.pcide), (.xsave, CR4.osxsave), (.smep, CR4.smep), (.smap, CR4.smap),
        (.pku, CR4.pke),
      ]) | CR4.pce
    extendedFeatureMask = mask([
      (.syscall, EFER.sce), (.longMode, EFER.lme | EFER.lma), (.nx, EFER.nxe), (.fastFXSR, EFER.ffxsr),
      (.automaticIBRS, 1 << 21),
    ])
    extendedStateMask = features.contains(.xsave) ? 3 | mask([(.avx, 4)]) : 0
  }
}

/// Features by level and vendor.
extension CPUModel {
  private static let common: CPUFeatureSet = [
    .sse3, .pclmulqdq, .ssse3, .cmpxchg16b, .pcid, .sse41, .sse42, .x2apic, .movbe, .popcnt, .timeStampDeadline, .aes,
    .xsave, .rdrand, .hypervisor,
    .fpu, .vme, .de, .pse, .tsc, .msr, .pae, .mce, .cmpxchg8b, .apic, .sep, .mtrr, .pge, .mca, .cmov, .pat, .pse36,
    .clflush, .mmx, .fxsr, .sse, .sse2,
    .alwaysRunningTimer,
    .fsgsbase, .timeStampAdjust, .bmi1, .smep, .bmi2, .erms, .invpcid, .rdseed, .adx, .smap, .clflushopt, .clwb, .sha,
    .umip, .rdpid, .fsrm,
    .xsaveopt, .xsavec, .xgetbv1,
    .lahf64, .lzcnt, .prefetchw,
    .syscall, .nx, .gigabytePages, .rdtscp, .longMode, .invariantTSC,
  ]

  private static let intelOnly: CPUFeatureSet = [.selfSnoop, .speculationControl, .architecturalCapabilities]

  private static let amdOnly: CPUFeatureSet = [
    .topologyExtensions, .lfenceSerializing, .nullSelectorClearsBase, .automaticIBRS,
  ]

  private static let level3: CPUFeatureSet = [.avx, .avx2, .fma, .f16c]
}
