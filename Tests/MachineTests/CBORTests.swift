import Testing

@testable import Machine

@Suite struct CBORTests {
  private struct Inner: Codable, Equatable {
    enum Kind: UInt8, Codable {
      case one = 1
      case two
    }
    var kind = Kind.two
    var optional: Int?
    var signed: [Int32] = [0, -1, .min, .max]
    var bytes: [UInt8] = [0, 255, 24]
    var wide: UInt64 = .max
    var narrow: Int64 = .min
  }

  private struct Outer: Codable, Equatable {
    var text = "größer\n"
    var flag = true
    var number = 2.5
    var none: [Int] = []
    var rows: [[Inner?]] = [[Inner(), nil], []]
    var table = ["a": Inner(optional: -7)]
    var empty = Empty()
    struct Empty: Codable, Equatable {}
  }

  @Test func statesSurvive() throws {
    let bytes = try CBOREncoder.encode(Outer()).encoded
    #expect(try CBORDecoder.decode(Outer.self, from: CBORParser.parse(bytes)) == Outer())
  }

  /// RFC 8949, appendix A.
  @Test func encodingsOfTheStandard() throws {
    let examples: [(CBORValue, [UInt8])] = [
      (.unsigned(0), [0x00]), (.unsigned(23), [0x17]), (.unsigned(24), [0x18, 0x18]),
      (.unsigned(1000), [0x19, 0x03, 0xe8]),
      (.unsigned(1_000_000), [0x1a, 0x00, 0x0f, 0x42, 0x40]),
      (.unsigned(.max), [0x1b] + [UInt8](repeating: 0xff, count: 8)),
      (.negative(0), [0x20]), (.negative(999), [0x39, 0x03, 0xe7]),
      (.double(1.1), [0xfb, 0x3f, 0xf1, 0x99, 0x99, 0x99, 0x99, 0x99, 0x9a]),
      (.bool(false), [0xf4]), (.null, [0xf6]), (.bytes([1, 2, 3, 4]), [0x44, 1, 2, 3, 4]),
      (.text("ü"), [0x62, 0xc3, 0xbc]),
      (.array([.unsigned(1), .array([.unsigned(2)])]), [0x82, 0x01, 0x81, 0x02]),
      (.map([("a", .unsigned(1)), ("b", .array([]))]), [0xa2, 0x61, 0x61, 0x01, 0x61, 0x62, 0x80]),
    ]
    for (value, bytes) in examples {
      #expect(value.encoded == bytes)
      #expect(try CBORParser.parse(bytes).encoded == bytes)
    }
  }

  /// Every cut and every changed byte is an error or another value, never a trap.
  @Test func brokenBytesAreErrors() throws {
    let bytes = try CBOREncoder.encode(Outer()).encoded
    for count in 0..<bytes.count {
      #expect(throws: CBORParser.Malformed.self) { try CBORParser.parse(Array(bytes[..<count])) }
    }
    for index in bytes.indices {
      for bit in 0..<8 {
        var changed = bytes
        changed[index] ^= 1 << UInt8(bit)
        guard let value = try? CBORParser.parse(changed) else { continue }
        _ = try? CBORDecoder.decode(Outer.self, from: value)
      }
    }
    // Nested without end, a text that is none, a length that lies.
    for bytes: [UInt8] in [
      [UInt8](repeating: 0x81, count: 100_000), [0x62, 0xff, 0xff], [0x9b] + [UInt8](repeating: 0xff, count: 8),
    ] {
      #expect(throws: CBORParser.Malformed.self) { try CBORParser.parse(bytes) }
    }
  }

  @Test func valuesOfAnotherKindAreErrors() throws {
    #expect(throws: DecodingError.self) { try CBORDecoder.decode(UInt8.self, from: .unsigned(256)) }
    #expect(throws: DecodingError.self) { try CBORDecoder.decode(UInt64.self, from: .negative(0)) }
    #expect(throws: DecodingError.self) { try CBORDecoder.decode(Outer.self, from: .array([])) }
    #expect(throws: DecodingError.self) { try CBORDecoder.decode([Int].self, from: .text("1")) }
    #expect(throws: DecodingError.self) { try CBORDecoder.decode(String.self, from: .null) }
  }
}
