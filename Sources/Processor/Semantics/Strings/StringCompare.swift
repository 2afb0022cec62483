import X86

/// CMPS: compares source with destination.
struct StringCompare<Element: Word>: StringOperation {
  /// REPE goes on while elements are equal, REPNE while they differ.
  private let endsWhenEqual: Bool
  private var first: Element = 0
  private var second: Element = 0

  init(endsWhenEqual: Bool) { self.endsWhenEqual = endsWhenEqual }

  static var hasSource: Bool { true }
  static var destinationAccess: AccessKind? { .read }

  mutating func step(
    _ processor: SoftwareProcessor, source: () throws(GuestFault) -> UInt64,
    destination: () throws(GuestFault) -> UInt64
  ) throws(GuestFault) -> Bool {
    let first = try processor.load(source(), as: Element.self)
    second = try processor.load(destination(), as: Element.self)
    self.first = first
    return (first == second) == endsWhenEqual
  }

  mutating func run(
    source: UnsafeMutableRawPointer, destination: UnsafeMutableRawPointer, count: Int, isDescending: Bool
  ) -> (done: Int, isEnd: Bool) {
    let stride = Self.stride(isDescending)
    var offset = 0
    for index in 0..<count {
      let first = source.loadUnaligned(fromByteOffset: offset, as: Element.self)
      let second = destination.loadUnaligned(fromByteOffset: offset, as: Element.self)
      offset &+= stride
      if (first == second) == endsWhenEqual || index == count &- 1 {
        self.first = first
        self.second = second
        return (index &+ 1, (first == second) == endsWhenEqual)
      }
    }
    return (0, false)
  }

  func finish(_ processor: SoftwareProcessor) {
    processor.setFlags(RFLAGS.arithmetic, ArithmeticFlags.difference(first, second))
  }
}
