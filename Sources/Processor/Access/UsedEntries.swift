/// Which entries of a table are in use, so that emptying a table of which little was used costs little: guests that change
/// address spaces without PCID use a few dozen entries of thousands between two flushes. When many are, the list gives up.
struct UsedEntries {
  static let capacity = 512

  private let indices: UnsafeMutablePointer<UInt16>
  /// `capacity + 1`: more than fit.
  private var count = 0

  init() { indices = .allocate(capacity: Self.capacity) }

  func deallocate() { indices.deallocate() }

  /// An entry that was empty is in use now. It may be on the list already.
  @inline(__always)
  mutating func append(_ index: Int) {
    if count < Self.capacity {
      indices[count] = UInt16(truncatingIfNeeded: index)
      count += 1
    } else {
      count = Self.capacity + 1
    }
  }

  /// Calls `body` with each entry that may be in use; `all` is the number of the table's entries.
  @inline(__always)
  func forEach(of all: Int, _ body: (Int) -> Void) {
    if count > Self.capacity {
      for index in 0..<all { body(index) }
    } else {
      for place in 0..<count { body(Int(indices[place])) }
    }
  }

  mutating func removeAll() { count = 0 }
}
