/// The text that says what a VMDK image consists of.
struct VMDKDescriptor {
  enum Kind { case zero, flat, sparse }

  struct Extent {
    /// In bytes.
    var size: UInt64
    var kind: Kind
    /// As it stands in the text.
    var path: String
    /// Where a flat extent begins in its file, in bytes.
    var offset: UInt64
  }

  /// More than any descriptor has, in bytes.
  static let limit = 1 << 20

  private(set) var extents: [Extent] = []
  private var values: [Substring: Substring] = [:]

  /// `name` is the image's, for errors.
  init(_ bytes: [UInt8], of name: String) throws(ImageFailure) {
    let text = String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
    for line in text.split(whereSeparator: \.isNewline) {
      if line.hasPrefix("#") { continue }
      if ["RW ", "RDONLY ", "NOACCESS "].contains(where: line.hasPrefix) {
        extents.append(try Self.extent(line, name))
      } else if let equals = line.firstIndex(of: "=") {
        let key = line[..<equals].filter { !$0.isWhitespace }
        values[key[...]] = line[line.index(after: equals)...].trimmingPrefix { $0 == " " || $0 == "\"" }
      }
    }
  }

  /// A line such as `RW 4192256 SPARSE "disk-s001.vmdk"`, with sizes in sectors.
  private static func extent(_ line: Substring, _ name: String) throws(ImageFailure) -> Extent {
    let quoted = line.split(separator: "\"", omittingEmptySubsequences: false)
    let words = quoted[0].split(separator: " ")
    guard words.count >= 3, let sectors = UInt64(words[1]), sectors < 1 << 53 else {
      throw ImageFailure(name, .corrupt("its descriptor has an extent that makes no sense: '\(line)'"))
    }
    let path = quoted.count > 1 ? String(quoted[1]) : ""
    let start = quoted.count > 2 ? quoted[2].split(separator: " ").first.flatMap { UInt64($0) } ?? 0 : 0
    let kind: Kind
    switch words[2] {
    case "ZERO": kind = .zero
    case "FLAT", "VMFS": kind = .flat
    case "SPARSE": kind = .sparse
    default:
      throw ImageFailure(
        name, .unsupported("it has an extent of the kind \(words[2]); FLAT, SPARSE, VMFS and ZERO are supported"))
    }
    guard kind == .zero || !path.isEmpty, start < 1 << 53 else {
      throw ImageFailure(name, .corrupt("its descriptor has an extent that makes no sense: '\(line)'"))
    }
    return Extent(size: sectors * 512, kind: kind, path: path, offset: start * 512)
  }

  /// Refuses an image that holds only what differs from another one.
  func requireNoParent(_ name: String) throws(ImageFailure) {
    guard let parent = values["parentCID"]?.prefix(8), parent.lowercased() != "ffffffff" else { return }
    throw ImageFailure(
      name, .unsupported("it is an overlay of another VMDK image; 'qemu-img convert' makes one image of both"))
  }
}
