/// One bit of CPUID that says that something exists.
struct CPUFeature: Hashable, Sendable {
  /// The output registers of CPUID that hold feature bits.
  enum Register: UInt8, CaseIterable, Sendable {
    case leaf1ECX, leaf1EDX, leaf6EAX, leaf7EBX, leaf7ECX, leaf7EDX, leaf71EAX, leafDEAX
    case kvmEAX
    case extended1ECX, extended1EDX, extended7EDX, extended8EBX, extended21EAX
  }

  let register: Register
  let bit: UInt8

  init(_ register: Register, _ bit: UInt8) {
    self.register = register
    self.bit = bit
  }
}

/// Features by name (SDM vol. 2A, CPUID; APM vol. 3, appendix E).
extension CPUFeature {
  static let sse3 = CPUFeature(.leaf1ECX, 0)
  static let pclmulqdq = CPUFeature(.leaf1ECX, 1)
  static let monitor = CPUFeature(.leaf1ECX, 3)
  static let ssse3 = CPUFeature(.leaf1ECX, 9)
  static let fma = CPUFeature(.leaf1ECX, 12)
  static let cmpxchg16b = CPUFeature(.leaf1ECX, 13)
  static let pcid = CPUFeature(.leaf1ECX, 17)
  static let sse41 = CPUFeature(.leaf1ECX, 19)
  static let sse42 = CPUFeature(.leaf1ECX, 20)
  static let x2apic = CPUFeature(.leaf1ECX, 21)
  static let movbe = CPUFeature(.leaf1ECX, 22)
  static let popcnt = CPUFeature(.leaf1ECX, 23)
  static let timeStampDeadline = CPUFeature(.leaf1ECX, 24)
  static let aes = CPUFeature(.leaf1ECX, 25)
  static let xsave = CPUFeature(.leaf1ECX, 26)
  static let osxsave = CPUFeature(.leaf1ECX, 27)
  static let avx = CPUFeature(.leaf1ECX, 28)
  static let f16c = CPUFeature(.leaf1ECX, 29)
  static let rdrand = CPUFeature(.leaf1ECX, 30)
  static let hypervisor = CPUFeature(.leaf1ECX, 31)

  static let fpu = CPUFeature(.leaf1EDX, 0)
  static let vme = CPUFeature(.leaf1EDX, 1)
  static let de = CPUFeature(.leaf1EDX, 2)
  static let pse = CPUFeature(.leaf1EDX, 3)
  static let tsc = CPUFeature(.leaf1EDX, 4)
  static let msr = CPUFeature(.leaf1EDX, 5)
  static let pae = CPUFeature(.leaf1EDX, 6)
  static let mce = CPUFeature(.leaf1EDX, 7)
  static let cmpxchg8b = CPUFeature(.leaf1EDX, 8)
  static let apic = CPUFeature(.leaf1EDX, 9)
  static let sep = CPUFeature(.leaf1EDX, 11)
  static let mtrr = CPUFeature(.leaf1EDX, 12)
  static let pge = CPUFeature(.leaf1EDX, 13)
  static let mca = CPUFeature(.leaf1EDX, 14)
  static let cmov = CPUFeature(.leaf1EDX, 15)
  static let pat = CPUFeature(.leaf1EDX, 16)
  static let pse36 = CPUFeature(.leaf1EDX, 17)
  static let clflush = CPUFeature(.leaf1EDX, 19)
  static let mmx = CPUFeature(.leaf1EDX, 23)
  static let fxsr = CPUFeature(.leaf1EDX, 24)
  static let sse = CPUFeature(.leaf1EDX, 25)
  static let sse2 = CPUFeature(.leaf1EDX, 26)
  static let selfSnoop = CPUFeature(.leaf1EDX, 27)
  static let hyperThreading = CPUFeature(.leaf1EDX, 28)

  /// The APIC timer runs in every C state.
  static let alwaysRunningTimer = CPUFeature(.leaf6EAX, 2)

  static let fsgsbase = CPUFeature(.leaf7EBX, 0)
  static let timeStampAdjust = CPUFeature(.leaf7EBX, 1)
  static let bmi1 = CPUFeature(.leaf7EBX, 3)
  static let avx2 = CPUFeature(.leaf7EBX, 5)
  static let smep = CPUFeature(.leaf7EBX, 7)
  static let bmi2 = CPUFeature(.leaf7EBX, 8)
  /// REP MOVSB and STOSB are fast.
  static let erms = CPUFeature(.leaf7EBX, 9)
  static let invpcid = CPUFeature(.leaf7EBX, 10)
  /// FCS and FDS are not kept.
  static let noFCS = CPUFeature(.leaf7EBX, 13)
  static let rdseed = CPUFeature(.leaf7EBX, 18)
  static let adx = CPUFeature(.leaf7EBX, 19)
  static let smap = CPUFeature(.leaf7EBX, 20)
  static let clflushopt = CPUFeature(.leaf7EBX, 23)
  static let clwb = CPUFeature(.leaf7EBX, 24)
  static let sha = CPUFeature(.leaf7EBX, 29)

  static let umip = CPUFeature(.leaf7ECX, 2)
  static let pku = CPUFeature(.leaf7ECX, 3)
  static let osPKE = CPUFeature(.leaf7ECX, 4)
  static let vaes = CPUFeature(.leaf7ECX, 9)
  static let vpclmulqdq = CPUFeature(.leaf7ECX, 10)
  static let la57 = CPUFeature(.leaf7ECX, 16)
  static let rdpid = CPUFeature(.leaf7ECX, 22)
  /// Protection keys for supervisor pages.
  static let pks = CPUFeature(.leaf7ECX, 31)

  /// Short REP MOVSB is fast too.
  static let fsrm = CPUFeature(.leaf7EDX, 4)
  static let serialize = CPUFeature(.leaf7EDX, 14)
  /// IBRS and IBPB: IA32_SPEC_CTRL and IA32_PRED_CMD exist.
  static let speculationControl = CPUFeature(.leaf7EDX, 26)
  static let architecturalCapabilities = CPUFeature(.leaf7EDX, 29)

  /// Linear-address masking.
  static let lam = CPUFeature(.leaf71EAX, 26)

  /// KVM's clock by its new registers; CPUID shows the old ones, and that all processors agree, with it.
  static let kvmClock = CPUFeature(.kvmEAX, 3)

  static let xsaveopt = CPUFeature(.leafDEAX, 0)
  static let xsavec = CPUFeature(.leafDEAX, 1)
  static let xgetbv1 = CPUFeature(.leafDEAX, 2)
  static let xsaves = CPUFeature(.leafDEAX, 3)

  static let lahf64 = CPUFeature(.extended1ECX, 0)
  static let lzcnt = CPUFeature(.extended1ECX, 5)
  static let sse4a = CPUFeature(.extended1ECX, 6)
  static let prefetchw = CPUFeature(.extended1ECX, 8)
  static let topologyExtensions = CPUFeature(.extended1ECX, 22)

  static let syscall = CPUFeature(.extended1EDX, 11)
  static let nx = CPUFeature(.extended1EDX, 20)
  static let fastFXSR = CPUFeature(.extended1EDX, 25)
  static let gigabytePages = CPUFeature(.extended1EDX, 26)
  static let rdtscp = CPUFeature(.extended1EDX, 27)
  static let longMode = CPUFeature(.extended1EDX, 29)

  static let invariantTSC = CPUFeature(.extended7EDX, 8)

  static let wbnoinvd = CPUFeature(.extended8EBX, 9)

  static let lfenceSerializing = CPUFeature(.extended21EAX, 2)
  static let nullSelectorClearsBase = CPUFeature(.extended21EAX, 6)
  static let automaticIBRS = CPUFeature(.extended21EAX, 8)
}

/// A set of features, held as CPUID's own registers.
struct CPUFeatureSet: ExpressibleByArrayLiteral, Equatable, Sendable {
  private var words = [UInt32](repeating: 0, count: CPUFeature.Register.allCases.count)

  init(arrayLiteral features: CPUFeature...) {
    for feature in features { insert(feature) }
  }

  func contains(_ feature: CPUFeature) -> Bool { self[feature.register] >> UInt32(feature.bit) & 1 != 0 }

  mutating func insert(_ feature: CPUFeature) { words[Int(feature.register.rawValue)] |= 1 << UInt32(feature.bit) }

  mutating func remove(_ feature: CPUFeature) { words[Int(feature.register.rawValue)] &= ~(1 << UInt32(feature.bit)) }

  /// Inserts a feature and all that it is built on.
  mutating func insertWithPrerequisites(_ feature: CPUFeature) {
    for needed in feature.prerequisites where !contains(needed) { insertWithPrerequisites(needed) }
    insert(feature)
  }

  /// Removes a feature and all that is built on it.
  mutating func removeWithDependents(_ feature: CPUFeature) {
    remove(feature)
    for dependent in feature.dependents where contains(dependent) { removeWithDependents(dependent) }
  }

  mutating func subtract(_ other: CPUFeatureSet) {
    for index in words.indices { words[index] &= ~other.words[index] }
  }

  func union(_ other: CPUFeatureSet) -> CPUFeatureSet {
    var result = self
    for index in words.indices { result.words[index] |= other.words[index] }
    return result
  }

  /// CPUID's output register.
  subscript(register: CPUFeature.Register) -> UInt32 { words[Int(register.rawValue)] }
}
