/// A part of a kernel file and where it belongs in memory.
public struct LoadSegment: Equatable, Sendable {
  public let fileOffset: UInt64
  public let fileSize: UInt64
  /// Guest-physical; the part beyond `fileSize` is zero. Not empty.
  public let memory: Range<UInt64>

  /// The same, `offset` bytes higher, modulo 2^64; it must not wrap around.
  func moved(by offset: UInt64) -> LoadSegment {
    LoadSegment(
      fileOffset: fileOffset, fileSize: fileSize,
      memory: (memory.lowerBound &+ offset)..<(memory.upperBound &+ offset))
  }
}
