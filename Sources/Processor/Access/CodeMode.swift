/// What the meaning of code bytes depends on besides the bytes: blocks decoded under different modes are different
/// blocks. All of it is known at decode time, so no instruction tests it when it runs.
struct CodeMode: OptionSet, Hashable, Sendable {
  let rawValue: UInt64

  /// Default size of code; neither bit: 16.
  static let code32 = CodeMode(rawValue: 1)
  static let code64 = CodeMode(rawValue: 2)
  /// Real-address or virtual-8086 mode.
  static let paragraphs = CodeMode(rawValue: 4)
  /// CPL above 0.
  static let unprivileged = CodeMode(rawValue: 8)
  /// x87 and MMX instructions run (CR0.EM and CR0.TS clear).
  static let x87 = CodeMode(rawValue: 16)
  /// SSE instructions run (CR4.OSFXSR set, CR0.EM and CR0.TS clear).
  static let sse = CodeMode(rawValue: 32)
  /// VEX instructions run (CR4.OSXSAVE and XCR0's SSE and AVX set, CR0.TS clear).
  static let avx = CodeMode(rawValue: 64)
  /// One instruction at a time: RFLAGS.TF or an enabled breakpoint.
  static let stepping = CodeMode(rawValue: 128)
  /// Code of 32 bits whose CS, DS, ES and SS start at 0 and have no effective limit; and 64-bit code, always.
  static let flat = CodeMode(rawValue: 256)
  /// The stack pointer has 32 bits; neither this nor `code64`: 16.
  static let stack32 = CodeMode(rawValue: 512)
  /// FS has no effective limit and is writable, whatever its base; legacy modes only.
  static let openFS = CodeMode(rawValue: 1024)
  /// The same of GS.
  static let openGS = CodeMode(rawValue: 2048)
}
