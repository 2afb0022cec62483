/// A data item of CBOR (RFC 8949), the form in which a snapshot holds all but memory: self-describing, compact, and the
/// same on every host.
///
/// Used are integers, byte and text strings, arrays, maps with text keys, false, true, null and 64-bit floats, all of
/// definite length.
indirect enum CBORValue {
  case unsigned(UInt64)
  /// -1 minus the number.
  case negative(UInt64)
  case bytes([UInt8])
  case text(String)
  case array([CBORValue])
  case map([(key: String, value: CBORValue)])
  case bool(Bool)
  case null
  case double(Double)

  var isNull: Bool { if case .null = self { true } else { false } }

  // MARK: Writing

  /// The bytes of RFC 8949, with the shortest heads.
  var encoded: [UInt8] {
    var bytes: [UInt8] = []
    append(to: &bytes)
    return bytes
  }

  private func append(to bytes: inout [UInt8]) {
    switch self {
    case .unsigned(let number): Self.appendHead(0, number, to: &bytes)
    case .negative(let number): Self.appendHead(1, number, to: &bytes)
    case .bytes(let string):
      Self.appendHead(2, UInt64(string.count), to: &bytes)
      bytes += string
    case .text(let string):
      Self.appendHead(3, UInt64(string.utf8.count), to: &bytes)
      bytes += string.utf8
    case .array(let items):
      Self.appendHead(4, UInt64(items.count), to: &bytes)
      for item in items { item.append(to: &bytes) }
    case .map(let pairs):
      Self.appendHead(5, UInt64(pairs.count), to: &bytes)
      for (key, value) in pairs {
        CBORValue.text(key).append(to: &bytes)
        value.append(to: &bytes)
      }
    case .bool(let flag): bytes.append(flag ? 0xf5 : 0xf4)
    case .null: bytes.append(0xf6)
    case .double(let number):
      bytes.append(0xfb)
      bytes += Self.bigEndian(number.bitPattern, 8)
    }
  }

  private static func appendHead(_ major: UInt8, _ number: UInt64, to bytes: inout [UInt8]) {
    switch number {
    case 0..<24: bytes.append(major << 5 | UInt8(number))
    case 24...0xff: bytes += [major << 5 | 24, UInt8(number)]
    case 0x100...0xffff: bytes += [major << 5 | 25] + bigEndian(number, 2)
    case 0x1_0000...0xffff_ffff: bytes += [major << 5 | 26] + bigEndian(number, 4)
    default: bytes += [major << 5 | 27] + bigEndian(number, 8)
    }
  }

  private static func bigEndian(_ number: UInt64, _ count: Int) -> [UInt8] {
    (0..<count).map { UInt8(truncatingIfNeeded: number >> UInt64(8 * (count - 1 - $0))) }
  }
}

/// Reads CBOR from bytes that nobody vouches for.
struct CBORParser {
  /// The bytes are no CBOR of the kind that snapshots use.
  struct Malformed: Error {}

  /// Deeper than any state is nested.
  private static let depthLimit = 64

  private let bytes: ArraySlice<UInt8>
  private var position: Int

  /// The one item that `bytes` are.
  static func parse(_ bytes: [UInt8]) throws(Malformed) -> CBORValue {
    var parser = CBORParser(bytes[...])
    let value = try parser.item(depth: 0)
    guard parser.position == bytes.count else { throw Malformed() }
    return value
  }

  private init(_ bytes: ArraySlice<UInt8>) {
    self.bytes = bytes
    position = bytes.startIndex
  }

  private mutating func take(_ count: UInt64) throws(Malformed) -> ArraySlice<UInt8> {
    guard count <= UInt64(bytes.endIndex - position) else { throw Malformed() }
    defer { position += Int(count) }
    return bytes[position..<(position + Int(count))]
  }

  private mutating func number(_ count: UInt64) throws(Malformed) -> UInt64 {
    try take(count).reduce(0) { $0 << 8 | UInt64($1) }
  }

  private mutating func item(depth: Int) throws(Malformed) -> CBORValue {
    guard depth < Self.depthLimit else { throw Malformed() }
    let head = UInt8(try number(1))
    let (major, information) = (head >> 5, head & 31)
    let argument: UInt64
    switch information {
    case 0..<24: argument = UInt64(information)
    case 24...27: argument = try number(1 << UInt64(information - 24))
    default: throw Malformed()
    }
    switch major {
    case 0: return .unsigned(argument)
    case 1: return .negative(argument)
    case 2: return .bytes(Array(try take(argument)))
    case 3: return .text(try text(argument))
    case 4: return .array(try items(argument, depth: depth))
    case 5: return .map(try pairs(argument, depth: depth))
    case 7:
      switch information {
      case 20: return .bool(false)
      case 21: return .bool(true)
      case 22: return .null
      case 27: return .double(Double(bitPattern: argument))
      default: throw Malformed()
      }
    default: throw Malformed()
    }
  }

  private mutating func text(_ count: UInt64) throws(Malformed) -> String {
    guard let text = String(validating: try take(count), as: UTF8.self) else { throw Malformed() }
    return text
  }

  private mutating func items(_ count: UInt64, depth: Int) throws(Malformed) -> [CBORValue] {
    var items: [CBORValue] = []
    // Each takes a byte at least, so a count that lies ends soon.
    for _ in 0..<count { items.append(try item(depth: depth + 1)) }
    return items
  }

  private mutating func pairs(_ count: UInt64, depth: Int) throws(Malformed) -> [(key: String, value: CBORValue)] {
    var pairs: [(key: String, value: CBORValue)] = []
    for _ in 0..<count {
      guard case .text(let key) = try item(depth: depth + 1) else { throw Malformed() }
      pairs.append((key, try item(depth: depth + 1)))
    }
    return pairs
  }
}

/// A part of a document that is read on its own, later, by whoever knows its type. Within CBOR only.
extension CBORValue: Decodable {
  init(from decoder: any Decoder) throws { self = try CBORDecoder.value(of: decoder) }
}
