import CHost

/// Features of the host's processor that engines care for, in the order in which `doctor` lists them. The raw value is
/// the name that `/proc/cpuinfo` uses.
public enum ProcessorFeature: String, CaseIterable, Sendable {
  case sse42 = "sse4_2"
  case aes, avx, avx2, bmi1, bmi2
  case avx512f, fsgsbase, rdrand, rdseed
  case fastStrings = "erms"
  case xsave
  case cmpxchg16b = "cx16"
  case invariantTimeStamp = "nonstop_tsc"
  case vmx, svm

  private enum Register { case eax, ebx, ecx, edx }

  /// Leaf, register and bit.
  private var location: (leaf: UInt32, register: Register, bit: UInt32) {
    switch self {
    case .sse42: (1, .ecx, 20)
    case .aes: (1, .ecx, 25)
    case .avx: (1, .ecx, 28)
    case .avx2: (7, .ebx, 5)
    case .bmi1: (7, .ebx, 3)
    case .bmi2: (7, .ebx, 8)
    case .avx512f: (7, .ebx, 16)
    case .fsgsbase: (7, .ebx, 0)
    case .rdrand: (1, .ecx, 30)
    case .rdseed: (7, .ebx, 18)
    case .fastStrings: (7, .ebx, 9)
    case .xsave: (1, .ecx, 26)
    case .cmpxchg16b: (1, .ecx, 13)
    case .invariantTimeStamp: (0x8000_0007, .edx, 8)
    case .vmx: (1, .ecx, 5)
    case .svm: (0x8000_0001, .ecx, 2)
    }
  }

  /// Whether the processor has it and, for vector state, the kernel keeps it.
  func isPresent(highestLeaf: UInt32) -> Bool {
    let location = location
    let highest = location.leaf >= 0x8000_0000 ? cpuid(0x8000_0000).eax : highestLeaf
    guard location.leaf <= highest else { return false }
    let leaf = cpuid(location.leaf)
    let register =
      switch location.register {
      case .eax: leaf.eax
      case .ebx: leaf.ebx
      case .ecx: leaf.ecx
      case .edx: leaf.edx
      }
    guard register >> location.bit & 1 == 1 else { return false }
    switch self {
    case .avx, .avx2: return Self.kernelKeeps(0x6)
    case .avx512f: return Self.kernelKeeps(0xe6)
    default: return true
    }
  }

  /// Whether all of these XCR0 components are switched on.
  private static func kernelKeeps(_ components: UInt64) -> Bool {
    cpuid(1).ecx >> 27 & 1 == 1 && hostXCR0() & components == components
  }
}
