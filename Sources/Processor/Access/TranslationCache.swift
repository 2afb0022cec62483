import CHost

/// The software TLB: for each of several recent address spaces, one table of pages for each set of access rights.
///
/// Address spaces are told apart by CR3 and, under CR4.PCIDE, by PCID, so that a change of CR3 that need not flush is the
/// change of a pointer. Chain handlers index `EngineArea.tlb` directly; everything else is here. Entries are filled by
/// `SoftwareProcessor.fill`, and a write tag is only ever present for a page whose writes nobody has asked to see.
///
/// Global pages are in each address space's tables by themselves: they stay when CR3 changes, and a new address space begins
/// with those of the last.
///
/// Each address space also has its cache from linear instruction address to block, which lives and dies with the
/// translations that it rests on.
final class TranslationCache {
  /// Rights that a table's entries were checked for.
  enum Context: Int, CaseIterable {
    case supervisor, supervisorWithAC, user
  }

  static let pageCount = 1024
  static let blockEntryCount = 16384
  static let spaceCount = 8

  /// One address space.
  struct Space {
    /// CR3's page-table address and PCID bits; ~0: unused.
    var root: UInt64 = ~0
    var lastUse: UInt64 = 0
    /// Tables of all contexts, one after another.
    let tables: UnsafeMutablePointer<TLBEntry>
    var usedEntries = UsedEntries()
    /// One bit for each entry: its page is global.
    let globalEntries: UnsafeMutablePointer<UInt64>
    let blocks: UnsafeMutablePointer<BlockCacheEntry>
    var usedBlocks = UsedEntries()
    /// One bit for each entry of `blocks`: the code is on a global page.
    let globalBlocks: UnsafeMutablePointer<UInt64>
    /// Where `blocks` may hold a block, by pages, by what pages of 2 or 4 MiB are in, and of 1 GiB.
    let codePages = AddressClasses<PageRegion>()
    let mediumCode = AddressClasses<MediumRegion>()
    let hugeCode = AddressClasses<HugeRegion>()
    /// Whether anything was filled since the last flush.
    var isEmpty = true
    /// See `linkStamp`.
    var linkStamp: UInt32 = 0
    /// Where pages of 2 or 4 MiB, and of 1 GiB, may have entries, of which there is one for each 4 KiB.
    let mediumPages = AddressClasses<MediumRegion>()
    let hugePages = AddressClasses<HugeRegion>()
    /// Those entries, each once, with a bit for each entry that tells which. Some may be another page's by now, or empty.
    var largeEntries = UsedEntries()
    let isLargeEntry: UnsafeMutablePointer<UInt64>

    init() {
      tables = .allocate(capacity: tableLength)
      for index in 0..<tableLength { TranslationCache.clear(tables, index) }
      blocks = .allocate(capacity: blockEntryCount)
      blocks.initialize(repeating: BlockCacheEntry(tag: 1, block: nil), count: blockEntryCount)
      globalEntries = .allocate(capacity: tableLength / 64)
      globalEntries.initialize(repeating: 0, count: tableLength / 64)
      globalBlocks = .allocate(capacity: blockEntryCount / 64)
      globalBlocks.initialize(repeating: 0, count: blockEntryCount / 64)
      isLargeEntry = .allocate(capacity: tableLength / 64)
      isLargeEntry.initialize(repeating: 0, count: tableLength / 64)
    }
  }

  /// A table that stays empty: in use while every access has to take the slow path.
  let emptyTable: UnsafeMutablePointer<TLBEntry>
  /// One to begin with, and up to `spaceCount` as the guest asks for them.
  private(set) var spaces: [Space]
  private(set) var current = 0
  private var useCount: UInt64 = 0
  /// CS's limit where code was last not flat: that of all such blocks in the block caches.
  private var codeLimit: UInt32 = 0xffff
  /// Numbers that identify what jumps to code on other pages rest on: as long as a number is in use, each page that code
  /// was found on is where it was. One for the current address space, and one for jumps between global pages. 0: nothing
  /// is promised.
  var linkStamp: UInt32 { spaces[current].linkStamp }
  private(set) var globalLinkStamp: UInt32 = 1
  private var lastStamp: UInt32 = 1
  /// Numbers of the global linear pages that code was found on since `globalLinkStamp` was new.
  /// It never grows: that would compute with floating point, under the guest's MXCSR.
  private var globalCodePages: Set<UInt64> = []
  private static let globalCodePageCount = 8192
  /// Called when `linkStamp` or `globalLinkStamp` may have changed.
  var onLinkStamps: () -> Void = {}
  /// Called when entries are taken away, so that copies of them can be forgotten.
  var onLoss: () -> Void = {}

  private static let tableLength = pageCount * Context.allCases.count

  /// The tag that no address hits which falls on entry `index`.
  @inline(__always) static func noPage(_ index: Int) -> UInt64 {
    UInt64(truncatingIfNeeded: (index & (pageCount - 1)) ^ (pageCount / 2)) << 12
  }

  private static func clear(_ table: UnsafeMutablePointer<TLBEntry>, _ index: Int) {
    let tag = noPage(index)
    table[index] = TLBEntry(readTag: tag, writeTag: tag, fetchTag: tag, host: 0)
  }

  init() {
    emptyTable = .allocate(capacity: Self.pageCount)
    for index in 0..<Self.pageCount { Self.clear(emptyTable, index) }
    spaces = []
    // Room for all: more come while the guest runs, under its MXCSR, and that is no time for an array to move.
    spaces.reserveCapacity(Self.spaceCount)
    spaces.append(Space())
    globalCodePages.reserveCapacity(Self.globalCodePageCount)
  }

  deinit {
    emptyTable.deallocate()
    for space in spaces {
      space.tables.deallocate()
      space.usedEntries.deallocate()
      space.globalEntries.deallocate()
      space.globalBlocks.deallocate()
      space.usedBlocks.deallocate()
      space.blocks.deallocate()
      space.largeEntries.deallocate()
      space.isLargeEntry.deallocate()
      space.codePages.deallocate()
      space.mediumCode.deallocate()
      space.hugeCode.deallocate()
      space.mediumPages.deallocate()
      space.hugePages.deallocate()
    }
  }

  func table(_ context: Context) -> UnsafeMutablePointer<TLBEntry> {
    spaces[current].tables + context.rawValue * Self.pageCount
  }

  /// The address space that a table of the context is of; nil: it is none of the context.
  func space(of table: UnsafeMutablePointer<TLBEntry>, _ context: Context) -> Int? {
    spaces.firstIndex { $0.tables + context.rawValue * Self.pageCount == table }
  }

  var blocks: UnsafeMutablePointer<BlockCacheEntry> { spaces[current].blocks }

  /// The entry that a linear address falls on. Pages that lie a multiple of the table's size apart fall on different ones.
  @inline(__always) static func index(of address: UInt64) -> Int {
    Int(truncatingIfNeeded: ((address ^ (address &>> 10)) &>> 12) & 1023)
  }

  /// Puts an entry into one of the current space's tables.
  @inline(__always)
  func fill(
    _ place: UnsafeMutablePointer<TLBEntry>, _ entry: TLBEntry, isGlobal: Bool, address: UInt64, pageShift: UInt64
  ) {
    let index = place - spaces[current].tables
    if pageShift > 12 { noteLargePage(index, address, pageShift) }
    if place.pointee.host == 0 { spaces[current].usedEntries.append(index) }
    place.pointee = entry
    Self.set(spaces[current].globalEntries, index, isGlobal)
    spaces[current].isEmpty = false
  }

  private func noteLargePage(_ index: Int, _ address: UInt64, _ pageShift: UInt64) {
    if pageShift > MediumRegion.shift {
      spaces[current].hugePages.insert(address)
    } else {
      spaces[current].mediumPages.insert(address)
    }
    guard !Self.isSet(spaces[current].isLargeEntry, index) else { return }
    Self.set(spaces[current].isLargeEntry, index, true)
    spaces[current].largeEntries.append(index)
  }

  /// Makes `root` the current address space; what is known of it is kept unless `flushes`.
  func select(root: UInt64, flushes: Bool) {
    useCount += 1
    if spaces[current].root != root {
      if let known = spaces.firstIndex(where: { $0.root == root }) {
        current = known
      } else {
        let space = unusedSpace()
        spaces[space].linkStamp = newStamp()
        if space != current { copyGlobal(from: current, to: space) }
        current = space
        spaces[space].root = root
      }
    }
    spaces[current].lastUse = useCount
    if flushes { flush(space: current, keepingGlobal: true) }
    onLinkStamps()
  }

  /// An empty address space: one more, or else the one that was not used for the longest time.
  private func unusedSpace() -> Int {
    if spaces.count < Self.spaceCount, spaces[0].root != ~0 {
      spaces.append(Space())
      return spaces.count - 1
    }
    var oldest = 0
    for index in spaces.indices where spaces[index].lastUse < spaces[oldest].lastUse { oldest = index }
    flush(space: oldest, keepingGlobal: false)
    return oldest
  }

  // MARK: Link stamps

  /// A number that was not in use since the last time that all blocks were dropped.
  private func newStamp() -> UInt32 {
    guard lastStamp < .max else { return 0 }
    lastStamp += 1
    return lastStamp
  }

  private func renewGlobalStamp() {
    globalLinkStamp = newStamp()
    globalCodePages.removeAll(keepingCapacity: true)
  }

  /// Whether what was found at a linear address, where code has just been fetched, stays there as long as `globalLinkStamp`
  /// is the same.
  func isGlobalCode(at address: UInt64, _ table: UnsafeMutablePointer<TLBEntry>) -> Bool {
    globalCodePages.contains(address >> 12) && isGlobal(address, table)
  }

  /// Forgets everything, of all address spaces.
  func flushAll(keepingGlobal: Bool = false) {
    for index in spaces.indices { flush(space: index, keepingGlobal: keepingGlobal) }
    if !keepingGlobal { renewGlobalStamp() }
    onLinkStamps()
  }

  /// Forgets one PCID's translations, but not those of global pages (MOV to CR3, INVPCID type 1).
  func flush(pcid: UInt64) {
    for index in spaces.indices where spaces[index].root != ~0 && spaces[index].root & 0xfff == pcid {
      flush(space: index, keepingGlobal: true)
    }
    onLinkStamps()
  }

  private func flush(space index: Int, keepingGlobal: Bool) {
    guard !spaces[index].isEmpty else { return }
    onLoss()
    spaces[index].linkStamp = newStamp()
    let (tables, globalEntries) = (spaces[index].tables, spaces[index].globalEntries)
    guard keepingGlobal else {
      spaces[index].usedEntries.forEach(of: Self.tableLength) { Self.clear(tables, $0) }
      spaces[index].usedEntries.removeAll()
      globalEntries.update(repeating: 0, count: Self.tableLength / 64)
      dropBlocks(space: index)
      spaces[index].mediumPages.removeAll()
      spaces[index].hugePages.removeAll()
      spaces[index].largeEntries.removeAll()
      spaces[index].isLargeEntry.update(repeating: 0, count: Self.tableLength / 64)
      spaces[index].isEmpty = true
      return
    }
    spaces[index].usedEntries.filter(of: Self.tableLength) { entry in
      guard Self.isSet(globalEntries, entry), tables[entry].host != 0 else {
        Self.clear(tables, entry)
        return false
      }
      return true
    }
    let (blocks, globalBlocks) = (spaces[index].blocks, spaces[index].globalBlocks)
    spaces[index].usedBlocks.filter(of: Self.blockEntryCount) { entry in
      guard Self.isSet(globalBlocks, entry), blocks[entry].block != nil else {
        blocks[entry] = BlockCacheEntry(tag: 1, block: nil)
        return false
      }
      return true
    }
  }

  /// Gives an empty address space what is global of another.
  private func copyGlobal(from old: Int, to new: Int) {
    let (source, target) = (spaces[old], spaces[new])
    spaces[new].isEmpty = source.isEmpty
    source.usedEntries.forEach(of: Self.tableLength) { entry in
      guard Self.isSet(source.globalEntries, entry), source.tables[entry].host != 0, target.tables[entry].host == 0
      else { return }
      spaces[new].usedEntries.append(entry)
      target.tables[entry] = source.tables[entry]
      Self.set(target.globalEntries, entry, true)
      if Self.isSet(source.isLargeEntry, entry), !Self.isSet(target.isLargeEntry, entry) {
        Self.set(target.isLargeEntry, entry, true)
        spaces[new].largeEntries.append(entry)
      }
    }
    source.usedBlocks.forEach(of: Self.blockEntryCount) { entry in
      guard Self.isSet(source.globalBlocks, entry), source.blocks[entry].block != nil,
        target.blocks[entry].block == nil
      else { return }
      spaces[new].usedBlocks.append(entry)
      target.blocks[entry] = source.blocks[entry]
      Self.set(target.globalBlocks, entry, true)
    }
    target.codePages.formUnion(source.codePages)
    target.mediumCode.formUnion(source.mediumCode)
    target.hugeCode.formUnion(source.hugeCode)
    target.mediumPages.formUnion(source.mediumPages)
    target.hugePages.formUnion(source.hugePages)
  }

  @inline(__always)
  private static func isSet(_ bits: UnsafeMutablePointer<UInt64>, _ index: Int) -> Bool {
    bits[index >> 6] & 1 << UInt64(index & 63) != 0
  }

  @inline(__always)
  private static func set(_ bits: UnsafeMutablePointer<UInt64>, _ index: Int, _ value: Bool) {
    let bit = (1 as UInt64) << UInt64(index & 63)
    bits[index >> 6] = value ? bits[index >> 6] | bit : bits[index >> 6] & ~bit
  }

  /// Whether code at `address`, which has just been fetched, is on a global page. `table` is the current one.
  private func isGlobal(_ address: UInt64, _ table: UnsafeMutablePointer<TLBEntry>) -> Bool {
    let entry = Self.index(of: address)
    let index = table - spaces[current].tables + entry
    guard index >= 0, index < Self.tableLength, table[entry].fetchTag == address & ~0xfff else { return false }
    return Self.isSet(spaces[current].globalEntries, index)
  }

  /// Code that is not flat runs with this limit of CS. Blocks that were decoded under another may reach beyond it.
  @inline(__always)
  func bringCodeLimit(_ limit: UInt32) {
    if limit != codeLimit { setCodeLimit(limit) }
  }

  @inline(never)
  private func setCodeLimit(_ limit: UInt32) {
    codeLimit = limit
    dropAllBlocks()
  }

  /// Remembers the block at `rip` in the current space's cache, by the linear page where it starts.
  func remember(_ block: UnsafeMutablePointer<CodeBlock>, rip: UInt64, table: UnsafeMutablePointer<TLBEntry>) {
    let address = block.pointee.linearAddress(rip: rip)
    spaces[current].isEmpty = false
    let index = Chain.blockIndex(rip)
    if spaces[current].blocks[index].block == nil { spaces[current].usedBlocks.append(index) }
    spaces[current].blocks[index] = BlockCacheEntry(tag: rip, block: block)
    let isGlobal = block.pointee.secondPage == ~0 && isGlobal(address, table)
    Self.set(spaces[current].globalBlocks, index, isGlobal)
    if isGlobal { noteGlobalCode(address >> 12) }
    noteCode(at: address)
    // It may reach into the next page.
    noteCode(at: address &+ 4096)
  }

  @inline(__always)
  private func noteCode(at address: UInt64) {
    spaces[current].codePages.insert(address)
    spaces[current].mediumCode.insert(address)
    spaces[current].hugeCode.insert(address)
  }

  private func noteGlobalCode(_ page: UInt64) {
    guard !globalCodePages.contains(page) else { return }
    if globalCodePages.count == Self.globalCodePageCount {
      renewGlobalStamp()
      onLinkStamps()
    }
    globalCodePages.insert(page)
  }

  private func dropBlocks(space index: Int) {
    spaces[index].codePages.removeAll()
    spaces[index].mediumCode.removeAll()
    spaces[index].hugeCode.removeAll()
    let blocks = spaces[index].blocks
    spaces[index].usedBlocks.forEach(of: Self.blockEntryCount) { blocks[$0] = BlockCacheEntry(tag: 1, block: nil) }
    spaces[index].usedBlocks.removeAll()
  }

  /// Forgets the blocks found by linear address, in all address spaces.
  func dropAllBlocks() {
    for index in spaces.indices where !spaces[index].isEmpty { dropBlocks(space: index) }
    for index in spaces.indices { spaces[index].linkStamp = newStamp() }
    renewGlobalStamp()
    onLinkStamps()
  }

  /// As `dropAllBlocks`, when nothing is left that has a stamp.
  func forgetAllBlocks() {
    lastStamp = 0
    dropAllBlocks()
  }

  /// Forgets one page (INVLPG) in every address space: a superset of what the manual requires, and right for global
  /// pages. Of a page larger than 4 KiB all is forgotten (SDM vol. 3A, 4.10.4.1).
  func flush(page address: UInt64) {
    let entry = Self.index(of: address)
    let page = address & ~0xfff
    onLoss()
    for index in spaces.indices where !spaces[index].isEmpty {
      let space = spaces[index]
      for context in 0..<Context.allCases.count {
        Self.clear(space.tables, context * Self.pageCount + entry)
      }
      if space.hugePages.mayHave(address) {
        forgetLargePages(at: address, space.hugePages, code: space.hugeCode, space: index)
      } else if space.mediumPages.mayHave(address) {
        forgetLargePages(at: address, space.mediumPages, code: space.mediumCode, space: index)
      } else {
        _ = dropBlocks(at: address, space.codePages, space: index)
      }
    }
    if globalCodePages.contains(page >> 12) { renewGlobalStamp() }
    onLinkStamps()
  }

  /// Forgets what large pages an address space has in an address's region, and its code.
  private func forgetLargePages<Region>(
    at address: UInt64, _ classes: AddressClasses<Region>, code: AddressClasses<Region>, space index: Int
  ) {
    typealias Classes = AddressClasses<Region>
    let space = spaces[index]
    let region = Classes.region(address)
    var isNeeded = false
    var entries = space.largeEntries
    entries.filter(of: Self.tableLength) { entry in
      let tags = space.tables[entry]
      let empty = Self.noPage(entry)
      // All tags that are of a page are of the same.
      let tag = tags.readTag != empty ? tags.readTag : tags.writeTag != empty ? tags.writeTag : tags.fetchTag
      let isOther = tag != empty && Classes.region(tag) != region
      if isOther {
        isNeeded = isNeeded || Classes.areAlike(tag, address)
      } else {
        Self.clear(space.tables, entry)
        Self.set(space.isLargeEntry, entry, false)
      }
      return isOther
    }
    spaces[index].largeEntries = entries
    if !isNeeded { classes.remove(address) }
    if dropBlocks(at: address, code, space: index) { renewGlobalStamp() }
  }

  /// Forgets the blocks that begin in an address's region or reach into it; false: there can be none. So that the next time
  /// is cheap, the bit of its class goes too, unless other regions need it.
  private func dropBlocks<Region>(at address: UInt64, _ classes: AddressClasses<Region>, space index: Int) -> Bool {
    typealias Classes = AddressClasses<Region>
    guard classes.mayHave(address) else { return false }
    let space = spaces[index]
    let region = Classes.region(address)
    var isNeeded = false
    spaces[index].linkStamp = newStamp()
    space.usedBlocks.forEach(of: Self.blockEntryCount) { entry in
      guard let block = space.blocks[entry].block else { return }
      let start = block.pointee.linearAddress(rip: space.blocks[entry].tag)
      let end = start &+ 4096
      if Classes.region(start) == region || Classes.region(end) == region {
        space.blocks[entry] = BlockCacheEntry(tag: 1, block: nil)
      } else {
        isNeeded = isNeeded || Classes.areAlike(start, address) || Classes.areAlike(end, address)
      }
    }
    if !isNeeded { classes.remove(address) }
    return true
  }

  /// Sends writes to one host page through the slow path from now on.
  func protect(hostPage: UInt64) {
    onLoss()
    for space in spaces where !space.isEmpty {
      space.usedEntries.forEach(of: Self.tableLength) { index in
        let entry = space.tables + index
        if entry.pointee.host == hostPage { entry.pointee.writeTag = Self.noPage(index) }
      }
    }
  }
}
