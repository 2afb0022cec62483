import CHost
import X86

/// What CPUID returns.
struct CPUIdentification: Equatable, Sendable {
  var eax: UInt32 = 0
  var ebx: UInt32 = 0
  var ecx: UInt32 = 0
  var edx: UInt32 = 0
}

/// CPUID (SDM vol. 2A; APM vol. 3, appendix E; hypervisor leaves from 0x4000_0000: Linux,
/// Documentation/virt/kvm/x86/cpuid.rst, and 0x4000_0010, which is VMware's).
extension CPUModel {
  static var lastHypervisorLeaf: UInt32 { 0x4000_0010 }

  /// The model's, or that of the last leaf which a feature is in.
  var lastBasicLeaf: UInt32 {
    let sevenths: [CPUFeature.Register] = [.leaf7EBX, .leaf7ECX, .leaf7EDX, .leaf71EAX]
    var last = definition.lastBasicLeaf
    if features.contains(.monitor) { last = max(last, 5) }
    if features[.leaf6EAX] != 0 { last = max(last, 6) }
    if sevenths.contains(where: { features[$0] != 0 }) { last = max(last, 7) }
    if features.contains(.x2apic) { last = max(last, 0xb) }
    if features.contains(.xsave) { last = max(last, 0xd) }
    return last
  }

  /// Nil: there are no extended leaves.
  var lastExtendedLeaf: UInt32? {
    let registers: [CPUFeature.Register] = [
      .extended1ECX, .extended1EDX, .extended7EDX, .extended8EBX, .extended21EAX,
    ]
    guard definition.hasExtendedLeaves || registers.contains(where: { features[$0] != 0 }) else { return nil }
    return vendor == .intel ? 0x8000_0008 : 0x8000_0021
  }

  /// The answer to EAX = `leaf`, ECX = `subleaf`, some of which depends on the processor's state.
  func identify(_ leaf: UInt32, _ subleaf: UInt32, _ state: UnsafePointer<CPUState>) -> CPUIdentification {
    let lastBasicLeaf = lastBasicLeaf
    if leaf <= lastBasicLeaf { return basicLeaf(leaf, subleaf, state) }
    if features.contains(.hypervisor), 0x4000_0000..<0x4000_0100 ~= leaf { return hypervisorLeaf(leaf) }
    if let lastExtendedLeaf, leaf >= 0x8000_0000, leaf <= lastExtendedLeaf {
      return extendedLeaf(leaf, subleaf, state, last: lastExtendedLeaf)
    }
    // Beyond the last leaf Intel repeats the last basic one; AMD gives zeros.
    return vendor == .amd ? CPUIdentification() : basicLeaf(lastBasicLeaf, subleaf, state)
  }

  private func basicLeaf(_ leaf: UInt32, _ subleaf: UInt32, _ state: UnsafePointer<CPUState>) -> CPUIdentification {
    switch leaf {
    case 0:
      let name = Self.words(vendor.rawValue)
      return CPUIdentification(eax: lastBasicLeaf, ebx: name[0], ecx: name[2], edx: name[1])
    case 1: return versionLeaf(state)
    // One byte says: see leaf 4.
    case 2 where vendor == .intel: return CPUIdentification(eax: 0x00fe_ff01)
    case 4 where vendor == .intel: return cacheLeaf(subleaf)
    // Lines of 64 bytes; interrupts end a wait even where they are masked. No sub-states: HLT idles better.
    case 5 where features.contains(.monitor): return CPUIdentification(eax: 64, ebx: 64, ecx: 3)
    case 6: return CPUIdentification(eax: features[.leaf6EAX])
    case 7 where subleaf == 0:
      var ecx = features[.leaf7ECX]
      if features.contains(.pku), state.pointee.cr4 & CR4.pke != 0 { ecx |= 1 << UInt32(CPUFeature.osPKE.bit) }
      // EAX is the last subleaf.
      return CPUIdentification(
        eax: features[.leaf71EAX] != 0 ? 1 : 0, ebx: features[.leaf7EBX], ecx: ecx, edx: features[.leaf7EDX])
    case 7 where subleaf == 1: return CPUIdentification(eax: features[.leaf71EAX])
    case 0xb: return topologyLeaf(subleaf)
    case 0xd: return extendedStateLeaf(subleaf, state)
    case 0x15: return clockLeaf
    case 0x16:
      let megahertz = UInt32(clamping: timeStampFrequency / 1_000_000 + (timeStampFrequency % 1_000_000) / 500_000)
      return CPUIdentification(eax: megahertz, ebx: megahertz, ecx: 100)
    default: return CPUIdentification()
    }
  }

  private func versionLeaf(_ state: UnsafePointer<CPUState>) -> CPUIdentification {
    var ecx = features[.leaf1ECX]
    if features.contains(.xsave), state.pointee.cr4 & CR4.osxsave != 0 { ecx |= 1 << UInt32(CPUFeature.osxsave.bit) }
    var edx = features[.leaf1EDX]
    // The local APIC is invisible while IA32_APIC_BASE disables it.
    if state.pointee.apicBase & 1 << 11 == 0 { edx &= ~(1 << UInt32(CPUFeature.apic.bit)) }
    if processorCount > 1, identity.family >= 6 { edx |= 1 << UInt32(CPUFeature.hyperThreading.bit) }
    // CLFLUSH lines of 64 bytes.
    var ebx: UInt32 = features.contains(.clflush) ? 8 << 8 : 0
    if identity.family >= 6 { ebx |= min(processorCount, 255) << 16 }
    if features.contains(.apic) { ebx |= (apicID & 0xff) << 24 }
    return CPUIdentification(eax: signature, ebx: ebx, ecx: ecx, edx: edx)
  }

  // MARK: Caches and topology

  /// A cache as the guest is told of it.
  private struct Cache {
    /// 1 data, 2 instructions, 3 both.
    var type: UInt32
    var level: UInt32
    var kibibytes: UInt32
    var ways: UInt32
    var isShared: Bool
  }

  private static let caches = [
    Cache(type: 1, level: 1, kibibytes: 32, ways: 8, isShared: false),
    Cache(type: 2, level: 1, kibibytes: 32, ways: 8, isShared: false),
    Cache(type: 3, level: 2, kibibytes: 1024, ways: 16, isShared: false),
    Cache(type: 3, level: 3, kibibytes: 16384, ways: 16, isShared: true),
  ]

  private func cacheLeaf(_ subleaf: UInt32) -> CPUIdentification {
    guard subleaf < UInt32(Self.caches.count) else { return CPUIdentification() }
    let cache = Self.caches[Int(subleaf)]
    let cores: UInt32 = (1 << coreBits) - 1
    var eax: UInt32 = cache.type | cache.level << 5 | 1 << 8
    if cache.isShared { eax |= min(cores, 0xfff) << 14 }
    if vendor == .intel { eax |= min(cores, 63) << 26 }
    let sets: UInt32 = cache.kibibytes * 16 / cache.ways
    return CPUIdentification(
      eax: eax, ebx: 63 | (cache.ways - 1) << 22, ecx: sets - 1,
      // Inclusive of the caches below.
      edx: cache.isShared ? 2 : 0)
  }

  /// Bits of the APIC ID that number the cores of the package.
  var coreBits: UInt32 { processorCount <= 1 ? 0 : UInt32(32 - (processorCount - 1).leadingZeroBitCount) }

  private func topologyLeaf(_ subleaf: UInt32) -> CPUIdentification {
    switch subleaf {
    case 0: CPUIdentification(eax: 0, ebx: 1, ecx: 1 << 8, edx: apicID)
    case 1: CPUIdentification(eax: coreBits, ebx: processorCount, ecx: 2 << 8 | 1, edx: apicID)
    default: CPUIdentification(ecx: subleaf & 0xff, edx: apicID)
    }
  }

  // MARK: Extended state

  /// Bytes of an XSAVE area in the standard format, and in the compacted one.
  private static func areaSize(_ components: UInt64) -> UInt32 {
    if components & XSaveArea.Component.pkru != 0 { return UInt32(XSaveArea.size) }
    return UInt32(XSaveArea.ymmHigh + (components & XSaveArea.Component.avx != 0 ? XSaveArea.ymmHighSize : 0))
  }

  private static func compactedSize(_ components: UInt64) -> UInt32 {
    var size = XSaveArea.ymmHigh
    if components & XSaveArea.Component.avx != 0 { size += XSaveArea.ymmHighSize }
    if components & XSaveArea.Component.pkru != 0 { size += XSaveArea.pkruSize }
    return UInt32(size)
  }

  private func extendedStateLeaf(_ subleaf: UInt32, _ state: UnsafePointer<CPUState>) -> CPUIdentification {
    guard features.contains(.xsave) else { return CPUIdentification() }
    let supported = extendedStateMask
    switch subleaf {
    case 0:
      return CPUIdentification(
        eax: UInt32(truncatingIfNeeded: supported), ebx: Self.areaSize(state.pointee.xcr0),
        ecx: Self.areaSize(supported), edx: UInt32(truncatingIfNeeded: supported >> 32))
    case 1:
      let enabled = state.pointee.xcr0 | state.pointee.xss
      return CPUIdentification(
        eax: features[.leafDEAX],
        ebx: features.contains(.xsavec) ? Self.compactedSize(enabled) : 0)
    case 2 where supported & XSaveArea.Component.avx != 0:
      return CPUIdentification(eax: UInt32(XSaveArea.ymmHighSize), ebx: UInt32(XSaveArea.ymmHigh))
    case 9 where supported & XSaveArea.Component.pkru != 0:
      return CPUIdentification(eax: UInt32(XSaveArea.pkruSize), ebx: UInt32(XSaveArea.pkru))
    default: return CPUIdentification()
    }
  }

  // MARK: Clocks

  /// TSC frequency as a ratio to the APIC timer's, the "core crystal clock". Linux multiplies crystal kHz and numerator
  /// in 32 bits, so the terms stay below what that holds.
  private var clockLeaf: CPUIdentification {
    let crystal = apicTimerFrequency
    guard timeStampFrequency > 0, crystal >= 1000, crystal <= UInt64(UInt32.max) else { return CPUIdentification() }
    let (numerator, denominator) = Self.ratio(
      timeStampFrequency, crystal, largest: max(1, UInt64(UInt32.max) / (crystal / 1000)))
    return CPUIdentification(
      eax: UInt32(truncatingIfNeeded: denominator), ebx: UInt32(truncatingIfNeeded: numerator),
      ecx: UInt32(truncatingIfNeeded: crystal))
  }

  /// The best approximation of `a / b` with a numerator of at most `largest`, by continued fractions.
  static func ratio(_ a: UInt64, _ b: UInt64, largest: UInt64) -> (UInt64, UInt64) {
    var (x, y) = (a, b)
    var (h0, h1): (UInt64, UInt64) = (0, 1)
    var (k0, k1): (UInt64, UInt64) = (1, 0)
    while y != 0 {
      let quotient = x / y
      let (scaled, overflow) = quotient.multipliedReportingOverflow(by: h1)
      guard !overflow, scaled <= largest, scaled + h0 <= largest else { break }
      (h0, h1) = (h1, scaled + h0)
      (k0, k1) = (k1, quotient &* k1 &+ k0)
      (x, y) = (y, x % y)
    }
    return k1 == 0 ? (0, 0) : (h1, k1)
  }

  // MARK: Hypervisor leaves

  /// KVM_FEATURE_CLOCKSOURCE and KVM_FEATURE_CLOCKSOURCE_STABLE_BIT.
  private static var kvmOldClock: UInt32 { 1 << 0 }
  private static var kvmStableClock: UInt32 { 1 << 24 }

  private func hypervisorLeaf(_ leaf: UInt32) -> CPUIdentification {
    switch leaf {
    case 0x4000_0000:
      // Guests look for KVM's clock where they find KVM's name.
      let name = Self.words(features.contains(.kvmClock) ? "KVMKVMKVM" : "RingsideVMM ")
      return CPUIdentification(eax: Self.lastHypervisorLeaf, ebx: name[0], ecx: name[1], edx: name[2])
    case 0x4000_0001 where features.contains(.kvmClock):
      return CPUIdentification(eax: features[.kvmEAX] | Self.kvmOldClock | Self.kvmStableClock)
    case Self.lastHypervisorLeaf:
      return CPUIdentification(
        eax: UInt32(clamping: timeStampFrequency / 1000), ebx: UInt32(clamping: apicTimerFrequency / 1000))
    default: return CPUIdentification()
    }
  }

  // MARK: Extended leaves

  private func extendedLeaf(
    _ leaf: UInt32, _ subleaf: UInt32, _ state: UnsafePointer<CPUState>, last: UInt32
  ) -> CPUIdentification {
    switch leaf {
    case 0x8000_0000:
      guard vendor == .amd else { return CPUIdentification(eax: last) }
      let name = Self.words(vendor.rawValue)
      return CPUIdentification(eax: last, ebx: name[0], ecx: name[2], edx: name[1])
    case 0x8000_0001:
      var edx = features[.extended1EDX]
      // Intel shows SYSCALL in 64-bit mode only; AMD repeats the basic features that both name alike.
      if vendor == .intel, state.pointee.efer & EFER.lma == 0 { edx &= ~(1 << UInt32(CPUFeature.syscall.bit)) }
      if vendor == .amd { edx |= features[.leaf1EDX] & 0x0183_f3ff }
      return CPUIdentification(eax: vendor == .amd ? signature : 0, ecx: features[.extended1ECX], edx: edx)
    case 0x8000_0002...0x8000_0004:
      let name = Self.words(brand)
      let first = Int(leaf - 0x8000_0002) * 4
      return CPUIdentification(eax: name[first], ebx: name[first + 1], ecx: name[first + 2], edx: name[first + 3])
    case 0x8000_0006:
      // L2: 1 MiB, 16 ways, lines of 64 bytes; L3 (AMD): in units of 512 KiB.
      return CPUIdentification(ecx: 1024 << 16 | 8 << 12 | 64, edx: vendor == .amd ? 32 << 18 | 8 << 12 | 64 : 0)
    case 0x8000_0007: return CPUIdentification(edx: features[.extended7EDX])
    case 0x8000_0008:
      let linear: UInt32 = features.contains(.la57) ? 57 : 48
      let cores = vendor == .amd ? (max(1, min(processorCount, 256)) - 1) | coreBits << 12 : 0
      return CPUIdentification(
        eax: UInt32(truncatingIfNeeded: physicalAddressBits) | linear << 8, ebx: features[.extended8EBX], ecx: cores)
    case 0x8000_001d where vendor == .amd: return cacheLeaf(subleaf)
    case 0x8000_001e where vendor == .amd: return CPUIdentification(eax: apicID, ebx: apicID & 0xff)
    case 0x8000_0021: return CPUIdentification(eax: features[.extended21EAX])
    default: return CPUIdentification()
    }
  }

  /// A string as little-endian words, zero-padded to 48 bytes.
  private static func words(_ text: String) -> [UInt32] {
    var bytes = Array(text.utf8.prefix(47))
    bytes += [UInt8](repeating: 0, count: 48 - bytes.count)
    return (0..<12).map { number in
      (0..<4).reduce(0) { $0 | UInt32(bytes[number * 4 + $1]) << UInt32(8 * $1) }
    }
  }
}
