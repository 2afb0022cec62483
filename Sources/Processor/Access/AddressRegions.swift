/// Which regions of linear addresses have something: a superset, and nearly exact. Regions are of 4 MiB, which hold the
/// pages of 2 and 4 MiB, and of 1 GiB.
struct AddressRegions {
  /// What regions are of.
  enum Size: UInt64 {
    /// As a shift.
    case medium = 22
    case huge = 30

    /// The smallest that holds a page of 1 << `shift` bytes.
    init(pageShift: UInt64) { self = pageShift > Self.medium.rawValue ? .huge : .medium }

    /// The number of the region that holds an address.
    func region(_ address: UInt64) -> UInt64 { address >> rawValue }
  }

  /// One bit for each class of medium regions, and behind them of huge ones.
  private let bits: UnsafeMutablePointer<UInt64>
  private var isEmpty = true

  private static let classCount = 1 << 12
  private static let wordCount = 2 * classCount / 64

  init() {
    bits = .allocate(capacity: Self.wordCount)
    bits.initialize(repeating: 0, count: Self.wordCount)
  }

  func deallocate() { bits.deallocate() }

  /// The bit of the region that holds an address.
  private static func bit(_ address: UInt64, _ size: Size) -> Int {
    let region = size.region(address)
    let number = Int(truncatingIfNeeded: (region ^ region >> 12) & UInt64(classCount - 1))
    return size == .huge ? classCount + number : number
  }

  @inline(__always)
  mutating func insert(_ address: UInt64, _ size: Size) {
    let bit = Self.bit(address, size)
    bits[bit >> 6] |= 1 << UInt64(bit & 63)
    isEmpty = false
  }

  /// Nothing is left of the regions that cannot be told from this one.
  mutating func remove(_ address: UInt64, _ size: Size) {
    let bit = Self.bit(address, size)
    bits[bit >> 6] &= ~(1 << UInt64(bit & 63))
  }

  mutating func formUnion(_ other: AddressRegions) {
    guard !other.isEmpty else { return }
    for word in 0..<Self.wordCount { bits[word] |= other.bits[word] }
    isEmpty = false
  }

  mutating func removeAll() {
    guard !isEmpty else { return }
    bits.update(repeating: 0, count: Self.wordCount)
    isEmpty = true
  }

  /// Whether the regions of two addresses cannot be told from each other.
  static func areAlike(_ address: UInt64, _ other: UInt64, _ size: Size) -> Bool {
    bit(address, size) == bit(other, size)
  }

  func mayHave(_ address: UInt64, _ size: Size) -> Bool {
    let bit = Self.bit(address, size)
    return bits[bit >> 6] & 1 << UInt64(bit & 63) != 0
  }

  /// The largest of an address's regions that may have something; nil: neither has.
  func largest(at address: UInt64) -> Size? {
    guard !isEmpty else { return nil }
    return mayHave(address, .huge) ? .huge : mayHave(address, .medium) ? .medium : nil
  }
}
