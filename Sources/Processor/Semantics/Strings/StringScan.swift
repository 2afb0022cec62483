import X86

/// SCAS: compares the accumulator with the destination.
struct StringScan<Element: Word>: StringOperation {
  private let value: Element
  /// REPE goes on while elements are equal to the accumulator, REPNE while they differ.
  private let endsWhenEqual: Bool
  private var last: Element = 0

  init(value: Element, endsWhenEqual: Bool) {
    self.value = value
    self.endsWhenEqual = endsWhenEqual
  }

  static var hasSource: Bool { false }
  static var destinationAccess: AccessKind? { .read }

  mutating func step(
    _ processor: SoftwareProcessor, source: () throws(GuestFault) -> UInt64,
    destination: () throws(GuestFault) -> UInt64
  ) throws(GuestFault) -> Bool {
    last = try processor.load(destination(), as: Element.self)
    return (last == value) == endsWhenEqual
  }

  mutating func run(
    source: UnsafeMutableRawPointer, destination: UnsafeMutableRawPointer, count: Int, isDescending: Bool
  ) -> (done: Int, isEnd: Bool) {
    let stride = Self.stride(isDescending)
    var offset = 0
    for index in 0..<count {
      last = destination.loadUnaligned(fromByteOffset: offset, as: Element.self)
      offset &+= stride
      if (last == value) == endsWhenEqual { return (index &+ 1, true) }
    }
    return (count, false)
  }

  func finish(_ processor: SoftwareProcessor) {
    processor.setFlags(RFLAGS.arithmetic, ArithmeticFlags.difference(value, last))
  }
}
