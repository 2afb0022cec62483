import CHost

/// One address space's cache from linear instruction address to block, which chains and generated code index directly.
struct BlockTable {
  let entries: UnsafeMutablePointer<BlockCacheEntry>
  private let used = EntrySet(capacity: length)
  /// Of those in use: the code is on a global page. Others may be here, too.
  private let global = EntrySet(capacity: length)
  /// For each entry in use, its neighbours in the chain of its page; undefined for others.
  private let links: UnsafeMutablePointer<Link>
  private let localCode = CodeLocations()
  private let globalCode = CodeLocations()

  static let length = TranslationCache.blockEntryCount
  private static let noEntry = UInt16.max

  /// `previous` is the number of a chain's head, above those of entries, where the entry is the first.
  private struct Link {
    var next: UInt16
    var previous: UInt16
  }

  /// Where the blocks of one kind are.
  private struct CodeLocations {
    /// The first entries of the chains of pages.
    let heads: UnsafeMutablePointer<UInt16>
    /// By the page where a block begins.
    let pages = AddressClasses<PageRegion>()
    /// By what pages of 2 or 4 MiB are in, and of 1 GiB, where a block begins or which it may reach into.
    let medium = AddressClasses<MediumRegion>()
    let huge = AddressClasses<HugeRegion>()

    static let headCount = 512

    init() {
      heads = .allocate(capacity: Self.headCount)
      heads.initialize(repeating: noEntry, count: Self.headCount)
    }

    func deallocate() {
      heads.deallocate()
      pages.deallocate()
      medium.deallocate()
      huge.deallocate()
    }

    @inline(__always)
    func insert(_ address: UInt64) {
      pages.insert(address)
      medium.insert(address)
      medium.insert(address &+ 4096)
      huge.insert(address)
      huge.insert(address &+ 4096)
    }

    func formUnion(_ other: Self) {
      pages.formUnion(other.pages)
      medium.formUnion(other.medium)
      huge.formUnion(other.huge)
    }

    func removeAll() {
      heads.update(repeating: noEntry, count: Self.headCount)
      pages.removeAll()
      medium.removeAll()
      huge.removeAll()
    }

    /// The head of the chain that pages of an address's class share with others.
    @inline(__always)
    static func head(_ address: UInt64) -> Int { AddressClasses<PageRegion>.bit(address) & (headCount - 1) }
  }

  init() {
    entries = .allocate(capacity: Self.length)
    entries.initialize(repeating: Self.empty, count: Self.length)
    // Fresh memory that costs nothing until it is used: only those of entries in use are looked at.
    links = .allocate(capacity: Self.length)
  }

  func deallocate() {
    entries.deallocate()
    used.deallocate()
    global.deallocate()
    links.deallocate()
    localCode.deallocate()
    globalCode.deallocate()
  }

  /// An odd tag that is no block's: the block says so.
  private static var empty: BlockCacheEntry { BlockCacheEntry(tag: 1, block: nil) }

  private func locations(_ isGlobal: Bool) -> CodeLocations { isGlobal ? globalCode : localCode }

  private func address(_ entry: Int) -> UInt64? {
    entries[entry].block.map { $0.pointee.linearAddress(rip: entries[entry].tag) }
  }

  /// Remembers a block that begins at a linear address and at `rip`.
  func insert(_ block: UnsafeMutablePointer<CodeBlock>, rip: UInt64, at address: UInt64, isGlobal: Bool) {
    let entry = Chain.blockIndex(rip)
    if used.contains(entry) { unlink(entry) }
    entries[entry] = BlockCacheEntry(tag: rip, block: block)
    used.insert(entry)
    global.set(entry, isGlobal)
    link(entry, at: address, isGlobal: isGlobal)
    locations(isGlobal).insert(address)
  }

  private func link(_ entry: Int, at address: UInt64, isGlobal: Bool) {
    let head = CodeLocations.head(address)
    let heads = locations(isGlobal).heads
    let next = heads[head]
    links[entry] = Link(next: next, previous: UInt16(truncatingIfNeeded: Self.length + head))
    if next != Self.noEntry { links[Int(next)].previous = UInt16(truncatingIfNeeded: entry) }
    heads[head] = UInt16(truncatingIfNeeded: entry)
  }

  private func unlink(_ entry: Int) {
    let link = links[entry]
    let previous = Int(link.previous)
    if previous < Self.length {
      links[previous].next = link.next
    } else {
      locations(global.contains(entry)).heads[previous - Self.length] = link.next
    }
    if link.next != Self.noEntry { links[Int(link.next)].previous = link.previous }
  }

  private func remove(_ entry: Int) {
    unlink(entry)
    entries[entry] = Self.empty
    used.remove(entry)
  }

  func removeAll() {
    used.visit { entries[$0] = Self.empty }
    used.removeAll()
    global.removeAll()
    localCode.removeAll()
    globalCode.removeAll()
  }

  /// Forgets the blocks on pages that are not global.
  func removeLocal() {
    used.formIntersection(global) { entries[$0] = Self.empty }
    localCode.removeAll()
  }

  /// Takes over what another address space has on global pages, but where something else is already.
  func formUnion(globalOf other: Self) {
    other.used.visit(in: other.global, notIn: used) { entry in
      guard let address = other.address(entry) else { return }
      used.insert(entry)
      global.insert(entry)
      entries[entry] = other.entries[entry]
      link(entry, at: address, isGlobal: true)
    }
    globalCode.formUnion(other.globalCode)
  }

  /// Forgets the blocks that begin on an address's page or on the page before, from where they may reach into it; false:
  /// there was none since the page was forgotten last.
  func remove(page address: UInt64) -> Bool {
    let hadCode = remove(beginningOn: address)
    return remove(beginningOn: address &- 4096) || hadCode
  }

  private func remove(beginningOn address: UInt64) -> Bool {
    let hadCode = remove(beginningOn: address, localCode)
    return remove(beginningOn: address, globalCode) || hadCode
  }

  /// So that the next time is cheap, the bit of the page's class goes too, unless other pages need it.
  private func remove(beginningOn address: UInt64, _ locations: CodeLocations) -> Bool {
    typealias Classes = AddressClasses<PageRegion>
    guard locations.pages.mayHave(address) else { return false }
    var isNeeded = false
    var next = locations.heads[CodeLocations.head(address)]
    while next != Self.noEntry {
      let entry = Int(next)
      next = links[entry].next
      guard let start = self.address(entry) else { continue }
      if Classes.region(start) == Classes.region(address) {
        remove(entry)
      } else {
        isNeeded = isNeeded || Classes.areAlike(start, address)
      }
    }
    if !isNeeded { locations.pages.remove(address) }
    return true
  }

  /// Forgets the blocks that begin in an address's region of 4 MiB or reach into it; false: there can be none.
  func remove(mediumRegion address: UInt64) -> Bool {
    remove(region: address, localCode.medium) || remove(region: address, globalCode.medium)
  }

  /// The same of 1 GiB.
  func remove(hugeRegion address: UInt64) -> Bool {
    remove(region: address, localCode.huge) || remove(region: address, globalCode.huge)
  }

  private func remove<Region>(region address: UInt64, _ classes: AddressClasses<Region>) -> Bool {
    typealias Classes = AddressClasses<Region>
    guard classes.mayHave(address) else { return false }
    let region = Classes.region(address)
    var isNeeded = false
    used.visit { entry in
      guard let start = self.address(entry) else { return }
      let end = start &+ 4096
      if Classes.region(start) == region || Classes.region(end) == region {
        remove(entry)
      } else {
        isNeeded = isNeeded || Classes.areAlike(start, address) || Classes.areAlike(end, address)
      }
    }
    if !isNeeded { classes.remove(address) }
    return true
  }
}
