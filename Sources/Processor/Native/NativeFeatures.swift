import CHost
import CZydis

/// What the host's vector and floating-point units can do, as far as the native unit uses it.
///
/// `CPUModel` offers a guest no more than this.
public struct NativeFeatures: OptionSet, Sendable {
  public let rawValue: UInt32
  public init(rawValue: UInt32) { self.rawValue = rawValue }

  public static let sse3 = NativeFeatures(rawValue: 1 << 0)
  public static let ssse3 = NativeFeatures(rawValue: 1 << 1)
  public static let sse41 = NativeFeatures(rawValue: 1 << 2)
  public static let sse42 = NativeFeatures(rawValue: 1 << 3)
  public static let aes = NativeFeatures(rawValue: 1 << 4)
  public static let pclmulqdq = NativeFeatures(rawValue: 1 << 5)
  public static let sha = NativeFeatures(rawValue: 1 << 6)
  public static let avx = NativeFeatures(rawValue: 1 << 7)
  public static let avx2 = NativeFeatures(rawValue: 1 << 8)
  public static let fma = NativeFeatures(rawValue: 1 << 9)
  public static let f16c = NativeFeatures(rawValue: 1 << 10)
  public static let vaes = NativeFeatures(rawValue: 1 << 11)
  public static let vpclmulqdq = NativeFeatures(rawValue: 1 << 12)
  // Instructions on general registers: without them the host would run others, or none.
  public static let popcnt = NativeFeatures(rawValue: 1 << 13)
  public static let lzcnt = NativeFeatures(rawValue: 1 << 14)
  public static let bmi1 = NativeFeatures(rawValue: 1 << 15)
  public static let bmi2 = NativeFeatures(rawValue: 1 << 16)

  /// Of the host that this runs on. x87, MMX, SSE and SSE2 are in every x86-64 processor.
  public static let host: NativeFeatures = {
    let first = hostCPUID(1, 0)
    let seventh = hostCPUID(7, 0)
    var features: NativeFeatures = []
    func add(_ feature: NativeFeatures, _ register: UInt32, _ bit: UInt32) {
      if register >> bit & 1 != 0 { features.insert(feature) }
    }
    add(.sse3, first.ecx, 0)
    add(.pclmulqdq, first.ecx, 1)
    add(.ssse3, first.ecx, 9)
    add(.sse41, first.ecx, 19)
    add(.sse42, first.ecx, 20)
    add(.aes, first.ecx, 25)
    add(.sha, seventh.ebx, 29)
    add(.popcnt, first.ecx, 23)
    add(.lzcnt, hostCPUID(0x8000_0001, 0).ecx, 5)
    add(.bmi1, seventh.ebx, 3)
    add(.bmi2, seventh.ebx, 8)
    if hostXCR0() & 6 == 6 {
      add(.avx, first.ecx, 28)
      add(.fma, first.ecx, 12)
      add(.f16c, first.ecx, 29)
      add(.avx2, seventh.ebx, 5)
      add(.vaes, seventh.ecx, 9)
      add(.vpclmulqdq, seventh.ecx, 10)
    }
    return features
  }()

  /// Features that no processor model can offer on this host.
  static let missing: [CPUFeature] = {
    let features: [(NativeFeatures, CPUFeature)] = [
      (.sse3, .sse3), (.ssse3, .ssse3), (.sse41, .sse41), (.sse42, .sse42), (.aes, .aes), (.pclmulqdq, .pclmulqdq),
      (.sha, .sha), (.avx, .avx), (.avx2, .avx2), (.fma, .fma), (.f16c, .f16c), (.vaes, .vaes),
      (.vpclmulqdq, .vpclmulqdq),
    ]
    return features.filter { !host.contains($0.0) }.map { $0.1 }
  }()

  /// Whether the host's units run the instructions of a Zydis ISA set; false for sets that are not the native unit's.
  public static func hostRuns(_ isaSet: ZydisISASet) -> Bool {
    let needed = requirements[Int(isaSet.rawValue)]
    return needed?.isSubset(of: host) ?? false
  }

  /// By Zydis ISA set. `PPRO` is FCOMI and its kin.
  private static let requirements: [NativeFeatures?] = {
    var table = [NativeFeatures?](repeating: nil, count: Int(ZYDIS_ISA_SET_MAX_VALUE.rawValue) + 1)
    let sets: [(ZydisISASet, NativeFeatures)] = [
      (ZYDIS_ISA_SET_X87, []), (ZYDIS_ISA_SET_FCMOV, []), (ZYDIS_ISA_SET_PPRO, []), (ZYDIS_ISA_SET_SSE3X87, .sse3),
      (ZYDIS_ISA_SET_PENTIUMMMX, []), (ZYDIS_ISA_SET_SSE, []), (ZYDIS_ISA_SET_SSE2, []), (ZYDIS_ISA_SET_SSE2MMX, []),
      (ZYDIS_ISA_SET_SSE3, .sse3), (ZYDIS_ISA_SET_SSSE3, .ssse3), (ZYDIS_ISA_SET_SSSE3MMX, .ssse3),
      (ZYDIS_ISA_SET_SSE4, .sse41), (ZYDIS_ISA_SET_SSE42, .sse42), (ZYDIS_ISA_SET_AES, .aes),
      (ZYDIS_ISA_SET_PCLMULQDQ, .pclmulqdq), (ZYDIS_ISA_SET_SHA, .sha),
      (ZYDIS_ISA_SET_AVX, .avx), (ZYDIS_ISA_SET_AVX2, .avx2), (ZYDIS_ISA_SET_AVX2GATHER, .avx2),
      (ZYDIS_ISA_SET_AVXAES, [.avx, .aes]), (ZYDIS_ISA_SET_FMA, .fma),
      (ZYDIS_ISA_SET_F16C, .f16c), (ZYDIS_ISA_SET_VAES, .vaes), (ZYDIS_ISA_SET_VPCLMULQDQ, .vpclmulqdq),
    ]
    for (isaSet, features) in sets { table[Int(isaSet.rawValue)] = features }
    return table
  }()
}
