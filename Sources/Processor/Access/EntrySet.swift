/// Which entries of a table are in use, or have some property: one bit for each. Emptying a table of which little is used
/// costs little: guests that change address spaces without PCID use a few dozen entries of thousands between two flushes.
struct EntrySet {
  private let words: UnsafeMutablePointer<UInt64>
  /// One bit for each word that may not be zero.
  private let usedWords: UnsafeMutablePointer<UInt64>
  private let usedWordsCount: Int

  /// An empty set of numbers below `capacity`, a multiple of 64.
  init(capacity: Int) {
    let wordCount = capacity / 64
    usedWordsCount = (wordCount + 63) / 64
    words = .allocate(capacity: wordCount)
    words.initialize(repeating: 0, count: wordCount)
    usedWords = .allocate(capacity: usedWordsCount)
    usedWords.initialize(repeating: 0, count: usedWordsCount)
  }

  func deallocate() {
    words.deallocate()
    usedWords.deallocate()
  }

  @inline(__always)
  func contains(_ entry: Int) -> Bool { words[entry >> 6] & Self.bit(entry) != 0 }

  @inline(__always)
  func insert(_ entry: Int) {
    words[entry >> 6] |= Self.bit(entry)
    usedWords[entry >> 12] |= Self.bit(entry >> 6)
  }

  @inline(__always)
  func remove(_ entry: Int) { words[entry >> 6] &= ~Self.bit(entry) }

  @inline(__always)
  func set(_ entry: Int, _ isMember: Bool) {
    if isMember { insert(entry) } else { remove(entry) }
  }

  func removeAll() {
    visitWords { words[$0] = 0 }
    usedWords.update(repeating: 0, count: usedWordsCount)
  }

  /// Calls `body` with each member. It may remove the member.
  @inline(__always)
  func visit(_ body: (Int) -> Void) {
    visitWords { Self.visit(words[$0], above: $0 << 6, body) }
  }

  /// Calls `body` with each member that is in `included` as well and not in `excluded`.
  @inline(__always)
  func visit(in included: EntrySet, notIn excluded: EntrySet, _ body: (Int) -> Void) {
    visitWords { Self.visit(words[$0] & included.words[$0] & ~excluded.words[$0], above: $0 << 6, body) }
  }

  /// Removes all members that are not in `kept`, and calls `body` with each of them.
  @inline(__always)
  func formIntersection(_ kept: EntrySet, dropping body: (Int) -> Void) {
    visitWords { word in
      let old = words[word]
      words[word] = old & kept.words[word]
      if words[word] == 0 { usedWords[word >> 6] &= ~Self.bit(word) }
      Self.visit(old & ~kept.words[word], above: word << 6, body)
    }
  }

  /// Calls `body` with the number of each word that may not be zero.
  @inline(__always)
  private func visitWords(_ body: (Int) -> Void) {
    for index in 0..<usedWordsCount { Self.visit(usedWords[index], above: index << 6, body) }
  }

  /// Calls `body` with the number of each set bit, of which the first's is `base`.
  @inline(__always)
  private static func visit(_ bits: UInt64, above base: Int, _ body: (Int) -> Void) {
    var rest = bits
    while rest != 0 {
      body(base | rest.trailingZeroBitCount)
      rest &= rest &- 1
    }
  }

  @inline(__always)
  private static func bit(_ entry: Int) -> UInt64 { 1 &<< UInt64(truncatingIfNeeded: entry & 63) }
}
