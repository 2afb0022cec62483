/// Which entries of a table are in use, so that emptying a table of which little was used costs little: guests that change
/// address spaces without PCID use a few dozen entries of thousands between two flushes. When many are, the list gives up.
struct UsedEntries {
  static let capacity = 8192

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

  /// Keeps the entries that `isKept`, which is asked for each that may be in use, says are in use still.
  @inline(__always)
  mutating func filter(of all: Int, _ isKept: (Int) -> Bool) {
    let (old, isWhole) = (count, count > Self.capacity)
    count = 0
    for place in 0..<(isWhole ? all : old) {
      let index = isWhole ? place : Int(indices[place])
      if isKept(index) { append(index) }
    }
  }

  mutating func removeAll() { count = 0 }
}
