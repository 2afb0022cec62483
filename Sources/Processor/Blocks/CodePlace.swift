import CHost

/// Where a block begins in its code segment, and where that ends.
///
/// The same bytes may be reached with another RIP or under another limit. For flat code that makes no difference but of
/// whole pages. Any other code is decoded anew then: its limit and the width of its IP decide what its instructions do.
struct CodePlace {
  /// RIP, of flat code its offset in the page.
  let start: UInt64
  /// CS's limit, of flat code none.
  let limit: UInt32

  init(rip: UInt64, limit: UInt32, _ mode: CodeMode) {
    let isFlat = mode.contains(.flat)
    start = isFlat ? rip & 0xfff : rip
    self.limit = isFlat ? ~0 : limit
  }

  /// That of a block.
  init(of block: UnsafePointer<CodeBlock>) {
    start = block.pointee.place
    limit = block.pointee.codeLimit
  }

  /// How many bytes may be fetched from `offset` bytes into the block on; none if it is beyond the limit.
  func room(at offset: Int) -> Int { Int(limit) &- Int(truncatingIfNeeded: start) &- offset &+ 1 }
}

extension CodeBlock {
  @inline(__always)
  func isAlive(at address: UInt64, key: UInt64, _ place: CodePlace) -> Bool {
    physicalAddress == address && self.key == key && self.place == place.start && codeLimit == place.limit
      && isDead == 0
  }

  /// The linear address of the block where its first byte has this RIP.
  func linearAddress(rip: UInt64) -> UInt64 {
    let base = key >> 32
    return base == 0 ? rip : (rip &+ base) & 0xffff_ffff
  }
}
