/// A stretch of a disk that is all of one kind.
public struct ImageExtent: Equatable, Sendable {
  /// In bytes, at least one.
  public var length: UInt64
  /// It reads as zeroes; where false, it has to be read to know.
  public var isZero: Bool

  public init(length: UInt64, isZero: Bool) {
    self.length = length
    self.isZero = isZero
  }
}
