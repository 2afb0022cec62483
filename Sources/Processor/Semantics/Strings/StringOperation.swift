import X86

/// What one string instruction does with its elements; `StringInstructions` has what they share.
///
/// Elements of type `Element` are read at the source (DS:rSI, or another segment by prefix) and read or written at the
/// destination (ES:rDI, always).
protocol StringOperation {
  associatedtype Element: Word

  static var hasSource: Bool { get }
  /// What is done to the destination; nil: there is none.
  static var destinationAccess: AccessKind? { get }

  /// Does one element through the processor's accessors; addresses are made by the closures, which check segments.
  /// Returns whether the repetition ends with it.
  mutating func step(
    _ processor: SoftwareProcessor, source: () throws(GuestFault) -> UInt64,
    destination: () throws(GuestFault) -> UInt64
  ) throws(GuestFault) -> Bool

  /// Does up to `count` elements in host memory. The pointers are those of the first element; further ones follow above
  /// it, or below if `isDescending`. An operand that there is none of has a meaningless pointer. Returns how many were
  /// done and whether the repetition ends with the last of them.
  mutating func run(
    source: UnsafeMutableRawPointer, destination: UnsafeMutableRawPointer, count: Int, isDescending: Bool
  ) -> (done: Int, isEnd: Bool)

  /// Stores results other than memory and pointers: flags, the accumulator. Not called when the element faulted.
  func finish(_ processor: SoftwareProcessor)
}

extension StringOperation {
  static var size: Int { MemoryLayout<Element>.size }
  static func stride(_ isDescending: Bool) -> Int { isDescending ? -size : size }
}
