/// The 256 words that a drive tells of itself (ATA8-ACS, 7.16 and 7.17).
struct ATAIdentification {
  private var words = [UInt16](repeating: 0, count: 256)

  subscript(index: Int) -> UInt16 {
    get { words[index] }
    set { words[index] = newValue }
  }

  /// A number of several words, lowest first.
  mutating func set(_ index: Int, _ value: UInt64, words count: Int) {
    for word in 0..<count { words[index + word] = UInt16(truncatingIfNeeded: value >> UInt64(16 * word)) }
  }

  /// Text, padded with spaces; the first of two characters is a word's high byte.
  mutating func set(_ index: Int, _ text: String, words count: Int) {
    let bytes = Array(text.utf8).resized(to: 2 * count, with: UInt8(ascii: " "))
    for word in 0..<count { words[index + word] = UInt16(bytes[2 * word]) << 8 | UInt16(bytes[2 * word + 1]) }
  }

  /// As it goes to the host, with the signature and the checksum of word 255.
  var bytes: [UInt8] {
    var bytes = words.flatMap { [UInt8(truncatingIfNeeded: $0), UInt8(truncatingIfNeeded: $0 >> 8)] }
    bytes[510] = 0xa5
    bytes[511] = 0 &- bytes[..<511].reduce(0, &+)
    return bytes
  }
}
