/// The layout of an XSAVE area's legacy region, header and components (SDM vol. 1, 13.4).
///
/// `CPUState.xsave` has the standard format. PKRU, which `CPUState` keeps apart, follows AVX state directly, as on AMD
/// processors; CPUID leaf 0xD must say so.
enum XSaveArea {
  static let control = 0
  static let status = 2
  static let tags = 4
  static let opcode = 6
  static let instructionPointer = 8
  static let dataPointer = 16
  static let mxcsr = 24
  static let mxcsrMask = 28
  /// ST0 to ST7, 16 bytes each.
  static let st = 32
  static let xmm = 160
  static let legacySize = 512
  static let header = 512
  static let componentBits = 512
  static let compactionBits = 520
  static let headerSize = 64
  static let ymmHigh = 576
  static let ymmHighSize = 256
  static let pkru = 832
  static let pkruSize = 8
  /// All components in the standard format.
  static let size = 840

  /// State components, by XCR0 bit.
  enum Component {
    static let x87: UInt64 = 1 << 0
    static let sse: UInt64 = 1 << 1
    static let avx: UInt64 = 1 << 2
    static let pkru: UInt64 = 1 << 9
    static let all: UInt64 = x87 | sse | avx | pkru
  }

  /// XCOMP_BV: the area has the compacted format.
  static let isCompacted: UInt64 = 1 << 63
  static let initialControl: UInt16 = 0x37f
  static let initialMXCSR: UInt32 = 0x1f80
}
