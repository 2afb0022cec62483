import Glibc
import X86

/// MOVS.
struct StringMove<Element: Word>: StringOperation {
  static var hasSource: Bool { true }
  static var destinationAccess: AccessKind? { .write }

  func step(
    _ processor: SoftwareProcessor, source: () throws(GuestFault) -> UInt64,
    destination: () throws(GuestFault) -> UInt64
  ) throws(GuestFault) -> Bool {
    let value = try processor.load(source(), as: Element.self)
    try processor.store(value, at: destination())
    return false
  }

  /// `memmove` has the effect of copying element by element unless an element that was written is read again later:
  /// the destination lies ahead of the source, in the direction of travel, within the copied range. Guests use that to
  /// fill memory with a pattern.
  func run(
    source: UnsafeMutableRawPointer, destination: UnsafeMutableRawPointer, count: Int, isDescending: Bool
  ) -> (done: Int, isEnd: Bool) {
    let bytes = count &* Self.size
    let ahead = isDescending ? source - destination : destination - source
    if ahead <= 0 || ahead >= bytes {
      let first = isDescending ? Self.size &- bytes : 0
      memmove(destination + first, source + first, bytes)
      return (count, false)
    }
    let stride = Self.stride(isDescending)
    var offset = 0
    for _ in 0..<count {
      destination.storeBytes(
        of: source.loadUnaligned(fromByteOffset: offset, as: Element.self), toByteOffset: offset, as: Element.self)
      offset &+= stride
    }
    return (count, false)
  }

  func finish(_ processor: SoftwareProcessor) {}
}
