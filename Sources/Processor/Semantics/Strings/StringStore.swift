import Glibc
import X86

/// STOS.
struct StringStore<Element: Word>: StringOperation {
  let value: Element

  static var hasSource: Bool { false }
  static var destinationAccess: AccessKind? { .write }

  func step(
    _ processor: SoftwareProcessor, source: () throws(GuestFault) -> UInt64,
    destination: () throws(GuestFault) -> UInt64
  ) throws(GuestFault) -> Bool {
    try processor.store(value, at: destination())
    return false
  }

  func run(
    source: UnsafeMutableRawPointer, destination: UnsafeMutableRawPointer, count: Int, isDescending: Bool
  ) -> (done: Int, isEnd: Bool) {
    let lowest = isDescending ? destination - (count &- 1) &* Self.size : destination
    // Zero is what memory is mostly filled with; any value whose bytes are all alike will do.
    if value == (value & 0xff) &* Element(truncatingIfNeeded: 0x0101_0101_0101_0101 as UInt64) {
      memset(lowest, Int32(truncatingIfNeeded: value & 0xff), count &* Self.size)
    } else {
      for index in 0..<count { lowest.storeBytes(of: value, toByteOffset: index &* Self.size, as: Element.self) }
    }
    return (count, false)
  }

  func finish(_ processor: SoftwareProcessor) {}
}
