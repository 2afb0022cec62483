/// Which entries of a table are in use, or have some property: one bit for each. Emptying a table of which little is used
/// costs little: guests that change address spaces without PCID use a few dozen entries of thousands between two flushes.
struct EntrySet {
  private let words: UnsafeMutablePointer<UInt64>
  private let wordCount: Int

  /// An empty set of numbers below `capacity`, a multiple of 64.
  init(capacity: Int) {
    wordCount = capacity / 64
    words = .allocate(capacity: wordCount)
    words.initialize(repeating: 0, count: wordCount)
  }

  func deallocate() { words.deallocate() }

  @inline(__always)
  func contains(_ entry: Int) -> Bool { words[entry >> 6] & Self.bit(entry) != 0 }

  @inline(__always)
  func insert(_ entry: Int) { words[entry >> 6] |= Self.bit(entry) }

  @inline(__always)
  func remove(_ entry: Int) { words[entry >> 6] &= ~Self.bit(entry) }

  @inline(__always)
  func set(_ entry: Int, _ isMember: Bool) {
    if isMember { insert(entry) } else { remove(entry) }
  }

  func removeAll() { words.update(repeating: 0, count: wordCount) }

  /// Calls `body` with each member. It may remove the member.
  @inline(__always)
  func visit(_ body: (Int) -> Void) {
    for word in 0..<wordCount { Self.visit(words[word], of: word, body) }
  }

  /// Calls `body` with each member that is in `included` as well and not in `excluded`.
  @inline(__always)
  func visit(in included: EntrySet, notIn excluded: EntrySet, _ body: (Int) -> Void) {
    for word in 0..<wordCount {
      Self.visit(words[word] & included.words[word] & ~excluded.words[word], of: word, body)
    }
  }

  /// Removes all members that are not in `kept`, and calls `body` with each of them.
  @inline(__always)
  func formIntersection(_ kept: EntrySet, dropping body: (Int) -> Void) {
    for word in 0..<wordCount {
      let old = words[word]
      words[word] = old & kept.words[word]
      Self.visit(old & ~kept.words[word], of: word, body)
    }
  }

  @inline(__always)
  private static func visit(_ bits: UInt64, of word: Int, _ body: (Int) -> Void) {
    var rest = bits
    while rest != 0 {
      body(word << 6 | rest.trailingZeroBitCount)
      rest &= rest &- 1
    }
  }

  @inline(__always)
  private static func bit(_ entry: Int) -> UInt64 { 1 &<< UInt64(truncatingIfNeeded: entry & 63) }
}
