import CHost
import Glibc

/// What processor the host has, as CPUID tells (SDM vol. 2A, CPUID; APM vol. 3, appendix E).
public struct ProcessorFacts: Sendable {
  /// "Intel(R) Xeon(R) …"; the vendor's twelve letters where the processor has no name.
  public var name: String
  public var vendor: String
  public var family: UInt32
  public var model: UInt32
  public var stepping: UInt32
  /// Processors that this process may use.
  public var count: Int
  /// "KVMKVMKVM" and so on, where this host is itself a virtual machine.
  public var hypervisor: String?
  public var features: Set<ProcessorFeature>

  public static func read() -> ProcessorFacts {
    let (highest, vendor) = leafZero()
    let signature = cpuid(1).eax
    let base = signature >> 8 & 15
    let isExtended = base == 15 || base == 6
    return ProcessorFacts(
      name: brand() ?? vendor, vendor: vendor, family: base == 15 ? base + (signature >> 20 & 255) : base,
      model: signature >> 4 & 15 | (isExtended ? signature >> 12 & 0xf0 : 0), stepping: signature & 15,
      count: max(1, sysconf(Int32(_SC_NPROCESSORS_ONLN))),
      hypervisor: cpuid(1).ecx >> 31 == 1 ? text(cpuid(0x4000_0000), [\.ebx, \.ecx, \.edx]) : nil,
      features: Set(ProcessorFeature.allCases.filter { $0.isPresent(highestLeaf: highest) }))
  }

  private static func leafZero() -> (highest: UInt32, vendor: String) {
    let leaf = cpuid(0)
    return (leaf.eax, text(leaf, [\.ebx, \.edx, \.ecx]))
  }

  private static func brand() -> String? {
    guard cpuid(0x8000_0000).eax >= 0x8000_0004 else { return nil }
    let parts = (0x8000_0002...0x8000_0004).map { text(cpuid(UInt32($0)), [\.eax, \.ebx, \.ecx, \.edx]) }
    let words = parts.joined().split(separator: " ")
    return words.isEmpty ? nil : words.joined(separator: " ")
  }

  /// The letters in some of a leaf's registers, up to the first zero.
  private static func text(_ leaf: HostCPUID, _ registers: [KeyPath<HostCPUID, UInt32>]) -> String {
    let bytes = registers.flatMap { register in
      (0..<4).map { UInt8(truncatingIfNeeded: leaf[keyPath: register] >> ($0 * 8)) }
    }
    return String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
  }
}

/// One leaf of the host's CPUID; all zero for a leaf that it does not have.
func cpuid(_ leaf: UInt32, _ subleaf: UInt32 = 0) -> HostCPUID { hostCPUID(leaf, subleaf) }
