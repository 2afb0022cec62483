/// Terms of ACPI's machine language, enough to describe a PC's fixed devices (ACPI 6.5, chapter 20).
///
/// A tree of these is what an ASL source would say; `encoded` is what a compiler would make of it.
indirect enum AMLTerm {
  /// Zero, or any number in the shortest encoding.
  case integer(UInt64)
  /// A number in four bytes, whatever it is: whoever knows where they lie can change it.
  case doubleword(UInt32)
  case string(String)
  /// A Plug and Play identifier such as "PNP0501".
  case identifier(String)
  case buffer([UInt8])
  case package([AMLTerm])
  /// `Name (path, value)`.
  case name(String, AMLTerm)
  case scope(String, [AMLTerm])
  case device(String, [AMLTerm])
  /// `Method (path, arguments) { … }`, not serialized.
  case method(String, arguments: UInt8, [AMLTerm])
  /// What a path names.
  case reference(String)
  /// `Local0` to `Local7`, and `Arg0` to `Arg6`.
  case local(UInt8)
  case argument(UInt8)
  case store(AMLTerm, to: AMLTerm)
  case and(AMLTerm, AMLTerm)
  /// Sets bits of what a path names.
  case set(UInt64, in: String)
  case add(AMLTerm, AMLTerm)
  /// An element of a package, for `store` to store to.
  case element(AMLTerm, UInt64)
  /// `Notify (path, value)`.
  case notify(String, UInt64)
  case conditional(AMLTerm, [AMLTerm])
  case returned(AMLTerm)
  /// `CreateDWordField (buffer, offset, name)`.
  case doublewordField(AMLTerm, offset: UInt64, String)
  /// A region of an address space, as fields of one byte each.
  case bytes(String, in: AddressSpace, offset: UInt64, fields: [String])

  /// 20.2.5.2, RegionSpace.
  enum AddressSpace: UInt8 {
    case ports = 1
    /// The PCI configuration space of the device around it.
    case configuration = 2
  }

  var encoded: [UInt8] {
    switch self {
    case .integer(let value): Self.encode(value)
    case .doubleword(let value): [0x0c] + (0..<4).map { UInt8(truncatingIfNeeded: value >> (8 * $0)) }
    case .string(let text): [0x0d] + Array(text.utf8) + [0]
    case .identifier(let text): Self.encode(Self.compress(text))
    case .buffer(let bytes): Self.packaged([0x11], Self.encode(UInt64(bytes.count)) + bytes)
    case .package(let elements):
      Self.packaged([0x12], [UInt8(elements.count)] + elements.flatMap(\.encoded))
    case .name(let path, let value): [0x08] + Self.encode(path: path) + value.encoded
    case .scope(let path, let terms): Self.packaged([0x10], Self.encode(path: path) + terms.flatMap(\.encoded))
    case .device(let path, let terms): Self.packaged([0x5b, 0x82], Self.encode(path: path) + terms.flatMap(\.encoded))
    case .method(let path, let arguments, let terms):
      Self.packaged([0x14], Self.encode(path: path) + [arguments] + terms.flatMap(\.encoded))
    case .reference(let path): Self.encode(path: path)
    case .local(let number): [0x60 + number]
    case .argument(let number): [0x68 + number]
    case .store(let value, let target): [0x70] + value.encoded + target.encoded
    // Their results go to no variable besides.
    case .and(let left, let right): [0x7b] + left.encoded + right.encoded + [0x00]
    case .set(let bits, let path): [0x7d] + Self.encode(path: path) + Self.encode(bits) + Self.encode(path: path)
    case .add(let left, let right): [0x72] + left.encoded + right.encoded + [0x00]
    case .element(let package, let index): [0x88] + package.encoded + Self.encode(index) + [0x00]
    case .notify(let path, let value): [0x86] + Self.encode(path: path) + Self.encode(value)
    case .conditional(let condition, let terms): Self.packaged([0xa0], condition.encoded + terms.flatMap(\.encoded))
    case .returned(let value): [0xa4] + value.encoded
    case .doublewordField(let buffer, let offset, let name):
      [0x8a] + buffer.encoded + Self.encode(offset) + Self.encode(path: name)
    case .bytes(let name, let space, let offset, let fields):
      [0x5b, 0x80] + Self.encode(path: name) + [space.rawValue] + Self.encode(offset)
        + Self.encode(UInt64(fields.count))
        // Byte accesses, no lock, other bits preserved; each field has eight bits.
        + Self.packaged(
          [0x5b, 0x81], Self.encode(path: name) + [0x01] + fields.flatMap { Self.encode(path: $0) + [0x08] })
    }
  }

  private static func encode(_ value: UInt64) -> [UInt8] {
    var writer = ByteWriter()
    switch value {
    case 0: return [0x00]
    case 1: return [0x01]
    case ...0xff:
      writer.append([0x0a])
      writer.append(UInt8(value))
    case ...0xffff:
      writer.append([0x0b])
      writer.append(UInt16(value))
    case ...0xffff_ffff:
      writer.append([0x0c])
      writer.append(UInt32(value))
    default:
      writer.append([0x0e])
      writer.append(value)
    }
    return writer.bytes
  }

  /// A term that begins with its own length: that counts its own bytes, too (20.2.4).
  private static func packaged(_ opcode: [UInt8], _ body: [UInt8]) -> [UInt8] {
    if body.count + 1 < 1 << 6 { return opcode + [UInt8(body.count + 1)] + body }
    for more in 1...3 {
      let length = body.count + 1 + more
      guard length < 1 << (4 + 8 * more) else { continue }
      let head = UInt8(more << 6 | length & 0xf)
      return opcode + [head] + (0..<more).map { UInt8(truncatingIfNeeded: length >> (4 + 8 * $0)) } + body
    }
    preconditionFailure("an AML term is larger than 256 MiB")
  }

  /// A path: segments of up to four characters, with dots between them, from the root if it begins with a backslash.
  private static func encode(path: String) -> [UInt8] {
    let isAbsolute = path.hasPrefix("\\")
    let segments = path.drop { $0 == "\\" }.split(separator: ".").map {
      Array($0.utf8) + [UInt8](repeating: UInt8(ascii: "_"), count: 4 - $0.utf8.count)
    }
    let prefix: [UInt8] =
      switch segments.count {
      case 1: []
      case 2: [0x2e]
      default: [0x2f, UInt8(segments.count)]
      }
    return (isAbsolute ? [UInt8(ascii: "\\")] : []) + prefix + segments.joined()
  }

  /// EISA's 32-bit form of an identifier: three letters of five bits and four hexadecimal digits, high byte first.
  private static func compress(_ identifier: String) -> UInt64 {
    let letters = identifier.utf8.prefix(3).reduce(UInt32(0)) { $0 << 5 | UInt32($1 - 0x40) }
    let digits = UInt32(identifier.dropFirst(3), radix: 16) ?? 0
    return UInt64((letters << 16 | digits).byteSwapped)
  }
}
