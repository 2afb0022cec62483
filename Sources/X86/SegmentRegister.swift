/// Segment registers in instruction-encoding order, as indices of `CPUState.segments`.
public enum SegmentRegister: Int, CaseIterable, Sendable {
  case es, cs, ss, ds, fs, gs
}

/// Attribute bits of `SegmentState.attributes` (descriptor bits 40 to 55 without limit bits; SDM vol. 3A, 3.4.5).
public enum SegmentAttributes {
  public static let accessed: UInt16 = 1 << 0
  /// Readable code or writable data.
  public static let readWrite: UInt16 = 1 << 1
  /// Conforming code or expand-down data.
  public static let conformingExpandDown: UInt16 = 1 << 2
  public static let code: UInt16 = 1 << 3
  /// Code or data, not a system descriptor.
  public static let nonSystem: UInt16 = 1 << 4
  public static let dplMask: UInt16 = 3 << 5
  public static let present: UInt16 = 1 << 7
  public static let long: UInt16 = 1 << 13
  /// D/B: 32-bit default.
  public static let big: UInt16 = 1 << 14
  public static let granularity: UInt16 = 1 << 15
}
