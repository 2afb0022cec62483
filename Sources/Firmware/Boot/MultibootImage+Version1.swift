extension MultibootImage {
  /// Bits of the header's flags (Multiboot 0.6.96, 3.1.2).
  private enum Flag {
    static let alignsModules: UInt32 = 1 << 0
    static let wantsMemory: UInt32 = 1 << 1
    /// A wish, which a machine without a display leaves open.
    static let wantsVideoMode: UInt32 = 1 << 2
    static let hasAddresses: UInt32 = 1 << 16
    /// What a loader must know to load the kernel.
    static let required: UInt32 = 0xffff
    static let known = alignsModules | wantsMemory | wantsVideoMode
  }

  /// Reads the header at `offset` of a file that begins with `head`.
  init(version1 head: ByteView, headerOffset offset: Int, file: BootFile) throws(BootFailure) {
    func field(_ index: Int) throws(BootFailure) -> UInt32 {
      guard let value: UInt32 = head.load(offset + 4 * index) else {
        throw BootFailure(file.name, .truncated(needs: UInt64(offset + 4 * index + 4), has: file.size))
      }
      return value
    }
    let flags = try field(1)
    let unknown = flags & Flag.required & ~Flag.known
    guard unknown == 0 else {
      throw BootFailure(file.name, .unknownMultibootFeature("flag bit \(unknown.trailingZeroBitCount)"))
    }
    var addresses: MultibootAddresses?
    var entry: UInt64?
    if flags & Flag.hasAddresses != 0 {
      addresses = MultibootAddresses(
        header: try field(3), load: try field(4), loadEnd: try field(5), bssEnd: try field(6))
      entry = UInt64(try field(7))
    }
    try self.init(
      version: .one, head: head, headerOffset: offset, addresses: addresses, entry: entry, relocation: nil, file: file)
  }
}
