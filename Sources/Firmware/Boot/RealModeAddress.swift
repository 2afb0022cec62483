/// A segment and an offset in real-address mode.
public struct RealModeAddress: Hashable, Sendable {
  public var segment: UInt16
  public var offset: UInt16

  public init(segment: UInt16, offset: UInt16) {
    self.segment = segment
    self.offset = offset
  }

  /// An address below 1 MiB, in the segment that starts at the multiple of 64 KiB below it. Nil: it lies beyond.
  public init?(linear: UInt64) {
    guard linear < 1 << 20 else { return nil }
    segment = UInt16(linear >> 4 & 0xf000)
    offset = UInt16(linear & 0xffff)
  }

  /// Guest-physical.
  public var linear: UInt64 { UInt64(segment) << 4 + UInt64(offset) }
}

extension RealModeAddress: CustomStringConvertible {
  public var description: String { String(segment, radix: 16) + ":" + String(offset, radix: 16) }
}
