import X86

/// LODS.
struct StringLoad<Element: Word>: StringOperation {
  private var value: Element = 0

  static var hasSource: Bool { true }
  static var destinationAccess: AccessKind? { nil }

  mutating func step(
    _ processor: SoftwareProcessor, source: () throws(GuestFault) -> UInt64,
    destination: () throws(GuestFault) -> UInt64
  ) throws(GuestFault) -> Bool {
    value = try processor.load(source(), as: Element.self)
    return false
  }

  mutating func run(
    source: UnsafeMutableRawPointer, destination: UnsafeMutableRawPointer, count: Int, isDescending: Bool
  ) -> (done: Int, isEnd: Bool) {
    value = source.loadUnaligned(fromByteOffset: (count &- 1) &* Self.stride(isDescending), as: Element.self)
    return (count, false)
  }

  func finish(_ processor: SoftwareProcessor) { processor.setRegister(0, value) }
}
