/// Makes a `Codable` state of CBOR. What does not fit is an error, never a trap.
struct CBORDecoder {
  static func decode<T: Decodable>(_ type: T.Type, from value: CBORValue) throws -> T {
    try get(type, from: value, [])
  }

  /// What a decoder of this kind stands at, as it is.
  static func value(of decoder: any Decoder) throws -> CBORValue {
    guard let decoder = decoder as? ValueDecoder else { throw mismatch(CBORValue.self, decoder.codingPath) }
    return decoder.value
  }

  private static func mismatch(_ type: Any.Type, _ path: [any CodingKey]) -> DecodingError {
    .typeMismatch(type, DecodingError.Context(codingPath: path, debugDescription: "a value of another kind"))
  }

  private static func get<T: Decodable>(_ type: T.Type, from value: CBORValue, _ path: [any CodingKey]) throws -> T {
    if let integer = type as? any FixedWidthInteger.Type {
      guard let number = convert(value, to: integer) as? T else { throw mismatch(type, path) }
      return number
    }
    // These would come back here to be decoded.
    if type == String.self || type == Bool.self || type == Double.self || type == Float.self {
      guard let scalar = scalar(value, as: type) else { throw mismatch(type, path) }
      return scalar
    }
    if case .bytes(let bytes) = value, let bytes = bytes as? T { return bytes }
    return try T(from: ValueDecoder(value: value, codingPath: path))
  }

  private static func scalar<T>(_ value: CBORValue, as type: T.Type) -> T? {
    switch value {
    case .text(let text): text as? T
    case .bool(let flag): flag as? T
    case .double(let number): number as? T ?? Float(number) as? T
    default: nil
    }
  }

  private static func convert<I: FixedWidthInteger>(_ value: CBORValue, to type: I.Type) -> I? {
    switch value {
    case .unsigned(let number): I(exactly: number)
    case .negative(let number): Int64(exactly: number).flatMap { I(exactly: ~$0) }
    default: nil
    }
  }

  private struct ValueDecoder: Decoder {
    let value: CBORValue
    let codingPath: [any CodingKey]
    var userInfo: [CodingUserInfoKey: Any] { [:] }

    func container<Key: CodingKey>(keyedBy type: Key.Type) throws -> KeyedDecodingContainer<Key> {
      guard case .map(let pairs) = value else { throw mismatch([String: Any].self, codingPath) }
      return KeyedDecodingContainer(
        Keyed<Key>(values: Dictionary(pairs.map { ($0.key, $0.value) }) { first, _ in first }, codingPath: codingPath))
    }

    func unkeyedContainer() throws -> any UnkeyedDecodingContainer {
      switch value {
      case .array(let values): return Unkeyed(values: values, codingPath: codingPath)
      // Any empty row counts as one of bytes when it is written.
      case .bytes(let bytes): return Unkeyed(values: bytes.map { .unsigned(UInt64($0)) }, codingPath: codingPath)
      default: throw mismatch([Any].self, codingPath)
      }
    }

    func singleValueContainer() -> any SingleValueDecodingContainer { Single(value: value, codingPath: codingPath) }
  }

  private struct Keyed<Key: CodingKey>: KeyedDecodingContainerProtocol {
    let values: [String: CBORValue]
    let codingPath: [any CodingKey]
    var allKeys: [Key] { values.keys.compactMap { Key(stringValue: $0) } }

    func contains(_ key: Key) -> Bool { values[key.stringValue] != nil }

    private func value(_ key: any CodingKey) throws -> CBORValue {
      guard let value = values[key.stringValue] else {
        throw DecodingError.keyNotFound(
          key, DecodingError.Context(codingPath: codingPath, debugDescription: "a value is missing"))
      }
      return value
    }

    func decodeNil(forKey key: Key) throws -> Bool { try value(key).isNull }

    func decode<T: Decodable>(_ type: T.Type, forKey key: Key) throws -> T {
      try get(type, from: value(key), codingPath + [key])
    }

    func nestedContainer<NestedKey>(
      keyedBy type: NestedKey.Type, forKey key: Key
    ) throws -> KeyedDecodingContainer<NestedKey> {
      try ValueDecoder(value: value(key), codingPath: codingPath + [key]).container(keyedBy: type)
    }

    func nestedUnkeyedContainer(forKey key: Key) throws -> any UnkeyedDecodingContainer {
      try ValueDecoder(value: value(key), codingPath: codingPath + [key]).unkeyedContainer()
    }

    func superDecoder() -> any Decoder { ValueDecoder(value: values["super"] ?? .null, codingPath: codingPath) }

    func superDecoder(forKey key: Key) throws -> any Decoder {
      ValueDecoder(value: try value(key), codingPath: codingPath + [key])
    }
  }

  private struct Unkeyed: UnkeyedDecodingContainer {
    let values: [CBORValue]
    let codingPath: [any CodingKey]
    private(set) var currentIndex = 0
    var count: Int? { values.count }
    var isAtEnd: Bool { currentIndex == values.count }

    init(values: [CBORValue], codingPath: [any CodingKey]) {
      self.values = values
      self.codingPath = codingPath
    }

    private mutating func next() throws -> CBORValue {
      guard !isAtEnd else {
        throw DecodingError.valueNotFound(
          Any.self, DecodingError.Context(codingPath: codingPath, debugDescription: "a row is too short"))
      }
      defer { currentIndex += 1 }
      return values[currentIndex]
    }

    mutating func decodeNil() throws -> Bool {
      guard !isAtEnd, values[currentIndex].isNull else { return false }
      currentIndex += 1
      return true
    }

    mutating func decode<T: Decodable>(_ type: T.Type) throws -> T { try get(type, from: next(), codingPath) }

    mutating func nestedContainer<NestedKey>(
      keyedBy type: NestedKey.Type
    ) throws -> KeyedDecodingContainer<NestedKey> {
      try ValueDecoder(value: next(), codingPath: codingPath).container(keyedBy: type)
    }

    mutating func nestedUnkeyedContainer() throws -> any UnkeyedDecodingContainer {
      try ValueDecoder(value: next(), codingPath: codingPath).unkeyedContainer()
    }

    mutating func superDecoder() throws -> any Decoder { ValueDecoder(value: try next(), codingPath: codingPath) }
  }

  private struct Single: SingleValueDecodingContainer {
    let value: CBORValue
    let codingPath: [any CodingKey]

    func decodeNil() -> Bool { value.isNull }
    func decode<T: Decodable>(_ type: T.Type) throws -> T { try get(type, from: value, codingPath) }
  }
}
