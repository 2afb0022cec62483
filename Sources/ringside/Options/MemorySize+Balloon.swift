/// What can be asked of a balloon.
extension MemorySize {
  /// A guest keeps at least so much.
  private static let leastLeft = MemorySize(bytes: 16 << 20)

  /// Why a guest with so much memory cannot be asked to give this away; nil: it can.
  func balloonProblem(memory: MemorySize) -> String? {
    if bytes % Self.page.bytes != 0 {
      return "\(self) is not a whole number of pages: give a multiple of \(Self.page.bytes) bytes, such as 64M"
    }
    guard bytes > 0, memory.bytes < Self.leastLeft.bytes || bytes > memory.bytes - Self.leastLeft.bytes else {
      return nil
    }
    return "\(self) is too much for a guest with \(memory) of memory, of which it keeps \(Self.leastLeft) at least"
  }

  /// As a balloon counts: pages of 4 KiB.
  var balloonPages: UInt32 { UInt32(clamping: bytes / Self.page.bytes) }
}
