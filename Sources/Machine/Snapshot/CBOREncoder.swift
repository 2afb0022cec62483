/// Turns a `Codable` state into CBOR. Keyed containers become maps by their keys' text, `[UInt8]` becomes a byte string.
struct CBOREncoder {
  static func encode(_ value: some Encodable) throws -> CBORValue {
    if let bytes = value as? [UInt8] { return .bytes(bytes) }
    let node = Node()
    try value.encode(to: NodeEncoder(node: node, codingPath: []))
    return node.value
  }

  /// A container that is being filled, or a finished value.
  private final class Node {
    enum Content {
      case empty
      case value(CBORValue)
      case array([Node])
      case map([(key: String, node: Node)])
    }
    var content = Content.empty

    var value: CBORValue {
      switch content {
      case .empty: .map([])
      case .value(let value): value
      case .array(let nodes): .array(nodes.map(\.value))
      case .map(let pairs): .map(pairs.map { ($0.key, $0.node.value) })
      }
    }

    func set(_ value: CBORValue) { content = .value(value) }

    func child(_ key: String) -> Node {
      let child = Node()
      if case .map(let pairs) = content {
        content = .map(pairs + [(key, child)])
      } else {
        content = .map([(key, child)])
      }
      return child
    }

    func child() -> Node {
      let child = Node()
      if case .array(var nodes) = content {
        content = .empty
        nodes.append(child)
        content = .array(nodes)
      } else {
        content = .array([child])
      }
      return child
    }

    var count: Int { if case .array(let nodes) = content { nodes.count } else { 0 } }
  }

  private struct NodeEncoder: Encoder {
    let node: Node
    let codingPath: [any CodingKey]
    var userInfo: [CodingUserInfoKey: Any] { [:] }

    func container<Key: CodingKey>(keyedBy type: Key.Type) -> KeyedEncodingContainer<Key> {
      if case .empty = node.content { node.content = .map([]) }
      return KeyedEncodingContainer(Keyed<Key>(node: node, codingPath: codingPath))
    }

    func unkeyedContainer() -> any UnkeyedEncodingContainer {
      if case .empty = node.content { node.content = .array([]) }
      return Unkeyed(node: node, codingPath: codingPath)
    }

    func singleValueContainer() -> any SingleValueEncodingContainer { Single(node: node, codingPath: codingPath) }
  }

  private static func put(_ value: some Encodable, in node: Node, _ path: [any CodingKey]) throws {
    switch value {
    case let bytes as [UInt8]: node.set(.bytes(bytes))
    case let text as String: node.set(.text(text))
    case let flag as Bool: node.set(.bool(flag))
    case let number as Double: node.set(.double(number))
    case let number as Float: node.set(.double(Double(number)))
    case let number as any FixedWidthInteger & Encodable:
      if let number = UInt64(exactly: number) {
        node.set(.unsigned(number))
      } else if let number = Int64(exactly: number) {
        node.set(.negative(UInt64(bitPattern: ~number)))
      } else {
        throw EncodingError.invalidValue(
          value, EncodingError.Context(codingPath: path, debugDescription: "an integer of more than 64 bits"))
      }
    default: try value.encode(to: NodeEncoder(node: node, codingPath: path))
    }
  }

  private struct Keyed<Key: CodingKey>: KeyedEncodingContainerProtocol {
    let node: Node
    let codingPath: [any CodingKey]

    mutating func encodeNil(forKey key: Key) { node.child(key.stringValue).set(.null) }

    mutating func encode<T: Encodable>(_ value: T, forKey key: Key) throws {
      try put(value, in: node.child(key.stringValue), codingPath + [key])
    }

    mutating func nestedContainer<NestedKey>(
      keyedBy type: NestedKey.Type, forKey key: Key
    ) -> KeyedEncodingContainer<NestedKey> {
      NodeEncoder(node: node.child(key.stringValue), codingPath: codingPath + [key]).container(keyedBy: type)
    }

    mutating func nestedUnkeyedContainer(forKey key: Key) -> any UnkeyedEncodingContainer {
      NodeEncoder(node: node.child(key.stringValue), codingPath: codingPath + [key]).unkeyedContainer()
    }

    mutating func superEncoder() -> any Encoder { NodeEncoder(node: node.child("super"), codingPath: codingPath) }

    mutating func superEncoder(forKey key: Key) -> any Encoder {
      NodeEncoder(node: node.child(key.stringValue), codingPath: codingPath + [key])
    }
  }

  private struct Unkeyed: UnkeyedEncodingContainer {
    let node: Node
    let codingPath: [any CodingKey]
    var count: Int { node.count }

    mutating func encodeNil() { node.child().set(.null) }

    mutating func encode<T: Encodable>(_ value: T) throws { try put(value, in: node.child(), codingPath) }

    mutating func nestedContainer<NestedKey>(keyedBy type: NestedKey.Type) -> KeyedEncodingContainer<NestedKey> {
      NodeEncoder(node: node.child(), codingPath: codingPath).container(keyedBy: type)
    }

    mutating func nestedUnkeyedContainer() -> any UnkeyedEncodingContainer {
      NodeEncoder(node: node.child(), codingPath: codingPath).unkeyedContainer()
    }

    mutating func superEncoder() -> any Encoder { NodeEncoder(node: node.child(), codingPath: codingPath) }
  }

  private struct Single: SingleValueEncodingContainer {
    let node: Node
    let codingPath: [any CodingKey]

    mutating func encodeNil() { node.set(.null) }
    mutating func encode<T: Encodable>(_ value: T) throws { try put(value, in: node, codingPath) }
  }
}
