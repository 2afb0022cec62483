/// Which regions of linear addresses may have translations by pages larger than 4 KiB: a superset, and nearly exact.
struct LargePages {
  /// One bit for each class of regions: of 4 MiB, which have the pages of 2 and 4 MiB, and behind them of 1 GiB.
  private let bits: UnsafeMutablePointer<UInt64>
  private var isEmpty = true

  private static let classCount = 1 << 14
  private static let wordCount = 2 * classCount / 64
  private static let mediumShift: UInt64 = 22
  private static let hugeShift: UInt64 = 30

  init() {
    bits = .allocate(capacity: Self.wordCount)
    bits.initialize(repeating: 0, count: Self.wordCount)
  }

  func deallocate() { bits.deallocate() }

  /// The bit of an address's region of 1 << `shift` bytes.
  private static func bit(_ address: UInt64, _ shift: UInt64) -> Int {
    let region = address >> shift
    let number = Int(truncatingIfNeeded: (region ^ region >> 14) & UInt64(classCount - 1))
    return shift == hugeShift ? classCount + number : number
  }

  private func isSet(_ bit: Int) -> Bool { bits[bit >> 6] & 1 << UInt64(bit & 63) != 0 }

  /// Notes a page of 1 << `shift` bytes.
  mutating func insert(_ address: UInt64, shift: UInt64) {
    let bit = Self.bit(address, shift > Self.mediumShift ? Self.hugeShift : Self.mediumShift)
    bits[bit >> 6] |= 1 << UInt64(bit & 63)
    isEmpty = false
  }

  mutating func formUnion(_ other: LargePages) {
    guard !other.isEmpty else { return }
    for word in 0..<Self.wordCount { bits[word] |= other.bits[word] }
    isEmpty = false
  }

  mutating func removeAll() {
    guard !isEmpty else { return }
    bits.update(repeating: 0, count: Self.wordCount)
    isEmpty = true
  }

  /// Nothing of the regions that `widest` cannot tell from this one has an entry any more.
  mutating func remove(_ address: UInt64, shift: UInt64) {
    let bit = Self.bit(address, shift)
    bits[bit >> 6] &= ~(1 << UInt64(bit & 63))
  }

  /// Whether `widest` can tell two regions of 1 << `shift` bytes apart.
  static func areAlike(_ address: UInt64, _ other: UInt64, shift: UInt64) -> Bool {
    bit(address, shift) == bit(other, shift)
  }

  /// The size, as a shift, of the largest region that may be of one page at `address`; nil: all pages there have 4 KiB.
  func widest(at address: UInt64) -> UInt64? {
    guard !isEmpty else { return nil }
    if isSet(Self.bit(address, Self.hugeShift)) { return Self.hugeShift }
    return isSet(Self.bit(address, Self.mediumShift)) ? Self.mediumShift : nil
  }
}
