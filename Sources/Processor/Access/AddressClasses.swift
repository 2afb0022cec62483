/// Regions of linear addresses of one size.
protocol AddressRegion {
  /// A region has 1 << `shift` bytes.
  static var shift: UInt64 { get }
  /// Regions are thrown together into 1 << `classShift` classes.
  static var classShift: UInt64 { get }
}

/// A page of 4 KiB.
enum PageRegion: AddressRegion {
  static let shift: UInt64 = 12
  static let classShift: UInt64 = 15
}

/// What pages of 2 or 4 MiB are in.
enum MediumRegion: AddressRegion {
  static let shift: UInt64 = 22
  static let classShift: UInt64 = 12
}

/// What a page of 1 GiB is.
enum HugeRegion: AddressRegion {
  static let shift: UInt64 = 30
  static let classShift: UInt64 = 12
}

/// Which regions have something: a superset, and nearly exact. One bit for each class.
struct AddressClasses<Region: AddressRegion> {
  private let bits: UnsafeMutablePointer<UInt64>

  private static var wordCount: Int { 1 << Int(Region.classShift - 6) }

  init() {
    bits = .allocate(capacity: Self.wordCount)
    bits.initialize(repeating: 0, count: Self.wordCount)
  }

  func deallocate() { bits.deallocate() }

  /// The number of the region that holds an address.
  @inline(__always) static func region(_ address: UInt64) -> UInt64 { address &>> Region.shift }

  @inline(__always)
  static func bit(_ address: UInt64) -> Int {
    let region = region(address)
    return Int(truncatingIfNeeded: (region ^ region &>> Region.classShift) & (1 &<< Region.classShift &- 1))
  }

  @inline(__always)
  func insert(_ address: UInt64) {
    let bit = Self.bit(address)
    bits[bit >> 6] |= 1 << UInt64(bit & 63)
  }

  /// Nothing is left of the regions that cannot be told from this one.
  func remove(_ address: UInt64) {
    let bit = Self.bit(address)
    bits[bit >> 6] &= ~(1 << UInt64(bit & 63))
  }

  func formUnion(_ other: Self) { for word in 0..<Self.wordCount { bits[word] |= other.bits[word] } }

  func removeAll() { bits.update(repeating: 0, count: Self.wordCount) }

  @inline(__always)
  func mayHave(_ address: UInt64) -> Bool {
    let bit = Self.bit(address)
    return bits[bit >> 6] & 1 << UInt64(bit & 63) != 0
  }

  /// Whether the regions of two addresses cannot be told from each other.
  @inline(__always)
  static func areAlike(_ address: UInt64, _ other: UInt64) -> Bool { bit(address) == bit(other) }
}
