/// Little-endian fields of bytes that nobody has checked yet: nil where a field is not wholly inside.
struct ByteView {
  let bytes: [UInt8]

  init(_ bytes: [UInt8]) { self.bytes = bytes }

  func load<T: FixedWidthInteger & UnsignedInteger>(_ offset: Int, as type: T.Type = T.self) -> T? {
    let count = T.bitWidth / 8
    guard offset >= 0, offset <= bytes.count, count <= bytes.count - offset else { return nil }
    return (0..<count).reduce(0) { $0 | T(truncatingIfNeeded: bytes[offset + $1]) << T(8 * $1) }
  }

  /// Whether `text` stands at `offset`.
  func has(_ text: some Collection<UInt8>, at offset: Int) -> Bool {
    offset >= 0 && offset <= bytes.count && text.count <= bytes.count - offset
      && bytes[offset...].starts(with: text)
  }
}
