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
/// **Older and newer ones** are data (`definition(of:)`). What a model lacks is gone everywhere: its CPUID bits and
/// leaves, its bits in CR4, EFER and XCR0, its MSRs and its instructions. AVX is off in `standard`: `standardLevel` decides.
public struct CPUModel: Sendable {
  public enum Vendor: String, Sendable, CaseIterable {
    case intel = "GenuineIntel"
    case amd = "AuthenticAMD"
  }

  /// Named processors, oldest first: the x86-64 psABI's levels with two older ones and everything that there is.
  public enum Level: String, Sendable, CaseIterable {
    case i486, pentium
    /// The psABI's baseline: up to SSE2.
    case v1 = "x86-64-v1"
    /// Up to SSE4.2.
    case v2 = "x86-64-v2"
    /// AVX, AVX2, FMA and F16C too.
    case v3 = "x86-64-v3"
    /// All that is implemented, as far as the host's units run it.
    case max
  }

  public let vendor: Vendor
  public let level: Level
  let definition: Definition
  let identity: Identity
  var features: CPUFeatureSet {
    didSet { deriveMasks() }
  }
  /// Width of physical addresses, at most 52.
  var physicalAddressBits: UInt64 {
    didSet { physicalAddressMask = (1 << physicalAddressBits) - 1 }
  }
  private(set) var physicalAddressMask: UInt64
  /// Whether page tables may map 1 GiB pages: the feature's bit, where the walk finds it at once.
  private(set) var hasGigabytePages = true
  /// Width of linear addresses in 64-bit mode, as far as any paging mode uses them.
  private(set) var linearAddressBits: Int64 = 48
  /// Bits of CR3 that switch linear-address masking on for user addresses; zero: the model has none.
  private(set) var addressMaskingBits: UInt64 = 0
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
    self.level = level
    definition = Self.definition(of: level)
    identity = vendor == .intel ? definition.intel : definition.amd
    physicalAddressBits = definition.physicalAddressBits
    physicalAddressMask = (1 << definition.physicalAddressBits) - 1
    features = definition.features
    if features.contains(.longMode) { features = features.union(vendor == .intel ? Self.intelOnly : Self.amdOnly) }
    if vendor == .amd { features.subtract(Self.neverAMD) }
    for feature in NativeFeatures.missing { features.removeWithDependents(feature) }
    deriveMasks()
  }

  /// The default level: whether AVX is on.
  public static let standardLevel = Level.v2

  /// The default processor.
  public static let standard = CPUModel()

  // MARK: Identity

  /// At most 47 characters.
  var brand: String { "Ringside Virtual CPU" }

  /// As IA32_BIOS_SIGN_ID (AMD: PATCH_LEVEL) reports it.
  var microcodeRevision: UInt64 { vendor == .intel ? 1 << 32 : 1 }

  /// CPUID.1:EAX.
  public var signature: UInt32 {
    let family = identity.family
    let baseFamily = min(family, 15)
    return identity.stepping | (identity.model & 15) << 4 | baseFamily << 8 | (identity.model >> 4) << 16
      | (family - baseFamily) << 20
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

  mutating func replaceFeatures(_ features: CPUFeatureSet) { self.features = features }

  private mutating func deriveMasks() {
    func mask(_ bits: [(CPUFeature, UInt64)]) -> UInt64 {
      bits.reduce(0) { features.contains($1.0) ? $0 | $1.1 : $0 }
    }
    hasGigabytePages = features.contains(.gigabytePages)
    linearAddressBits = features.contains(.la57) ? 57 : 48
    addressMaskingBits = features.contains(.lam) ? CR3.lamU48 | CR3.lamU57 : 0
    controlRegister4Mask =
      mask([
        (.vme, CR4.vme | CR4.pvi), (.tsc, CR4.tsd), (.de, CR4.de), (.pse, CR4.pse), (.pae, CR4.pae), (.mce, CR4.mce),
        (.pge, CR4.pge), (.fxsr, CR4.osfxsr), (.sse, CR4.osxmmexcpt), (.umip, CR4.umip), (.la57, CR4.la57),
        (.fsgsbase, CR4.fsgsbase), (.pcid, CR4.pcide), (.xsave, CR4.osxsave), (.smep, CR4.smep), (.smap, CR4.smap),
        (.pku, CR4.pke), (.pks, CR4.pks), (.lam, CR4.lamSupervisor),
      ]) | (identity.family >= 6 ? CR4.pce : 0)
    extendedFeatureMask = mask([
      (.syscall, EFER.sce), (.longMode, EFER.lme | EFER.lma), (.nx, EFER.nxe), (.fastFXSR, EFER.ffxsr),
      (.automaticIBRS, 1 << 21),
    ])
    extendedStateMask = features.contains(.xsave) ? 3 | mask([(.avx, 4), (.pku, XSaveArea.Component.pkru)]) : 0
  }
}
