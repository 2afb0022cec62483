extension MultibootImage {
  /// Header tags (Multiboot2 2.0, 3.1.3 to 3.1.12).
  private enum HeaderTag {
    static let end: UInt16 = 0
    static let informationRequest: UInt16 = 1
    static let addresses: UInt16 = 2
    static let entry: UInt16 = 3
    static let relocatable: UInt16 = 10
    /// Console, framebuffer, module alignment and EFI's tags are known too: modules are always aligned, and what this
    /// machine does not have (a display, EFI) a kernel learns from the information's silence.
    static let last: UInt16 = 10
    static let optional: UInt16 = 1
  }

  /// Highest type of information that the specification knows.
  private static let lastInformation: UInt32 = 21

  /// Reads the header at `offset` of a file that begins with `head`.
  init(version2 head: ByteView, headerOffset offset: Int, file: BootFile) throws(BootFailure) {
    guard let architecture: UInt32 = head.load(offset + 4), let length: UInt32 = head.load(offset + 8) else {
      throw BootFailure(file.name, .truncated(needs: UInt64(offset + 16), has: file.size))
    }
    guard architecture == 0 else {
      throw BootFailure(file.name, .unknownMultibootFeature("architecture \(architecture)"))
    }
    let end = offset + Int(min(length, 1 << 16))
    guard end <= head.bytes.count else { throw BootFailure(file.name, .truncated(needs: UInt64(end), has: file.size)) }

    var tags = HeaderTags()
    var next = offset + 16
    while next < end {
      guard let type: UInt16 = head.load(next), let flags: UInt16 = head.load(next + 2),
        let size: UInt32 = head.load(next + 4), size >= 8, Int(size) <= end - next
      else { throw BootFailure(file.name, .malformed("its multiboot header has a tag that does not end in it")) }
      if type == HeaderTag.end { break }
      let body = ByteView(Array(head.bytes[next + 8..<next + Int(size)]))
      let isKnown = tags.take(type, body)
      guard isKnown || flags & HeaderTag.optional != 0 else {
        throw BootFailure(file.name, .unknownMultibootFeature("header tag \(type)"))
      }
      next += (Int(size) + 7) & ~7
    }
    try self.init(
      version: .two, head: head, headerOffset: offset, addresses: tags.addresses, entry: tags.entry,
      relocation: tags.relocation, file: file)
  }

  /// What the header's tags say.
  private struct HeaderTags {
    var addresses: MultibootAddresses?
    var entry: UInt64?
    var relocation: Relocation?

    /// Reads a tag. False: it is unknown, asks for something unknown, or is too short to be understood.
    mutating func take(_ type: UInt16, _ body: ByteView) -> Bool {
      func field(_ index: Int) -> UInt32? { body.load(4 * index) }
      switch type {
      case HeaderTag.informationRequest:
        return (0..<body.bytes.count / 4).allSatisfy { field($0) ?? 0 <= lastInformation }
      case HeaderTag.addresses:
        guard let header = field(0), let load = field(1), let loadEnd = field(2), let bssEnd = field(3) else {
          return false
        }
        addresses = MultibootAddresses(
          header: header, load: load == .max ? nil : load, loadEnd: loadEnd, bssEnd: bssEnd)
      case HeaderTag.entry:
        guard let address = field(0) else { return false }
        entry = UInt64(address)
      case HeaderTag.relocatable:
        guard let lowest = field(0), let highest = field(1), let alignment = field(2), let preference = field(3),
          lowest <= highest, alignment == 0 || alignment.nonzeroBitCount == 1, preference <= 2
        else { return false }
        relocation = Relocation(
          range: UInt64(lowest)..<UInt64(highest) + 1, alignment: UInt64(max(alignment, 1)),
          prefersHighest: preference == 2, hasNoPreference: preference == 0)
      default: return type <= HeaderTag.last
      }
      return true
    }
  }
}
