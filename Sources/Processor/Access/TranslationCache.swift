import CHost
import Glibc

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

  /// Entries of a table: what covers 32 MiB. Systems touch more than the TLB of a processor holds, and a miss costs more
  /// here.
  static let pageCount = 1 << indexBits
  static let indexBits = 13
  /// From an address space's table of supervisors' pages to that of users', in entries.
  static let distanceToUser = Context.user.rawValue * pageCount
  static let blockEntryCount = 32768
  static let spaceCount = 8

  /// One address space.
  struct Space {
    /// CR3's page-table address and PCID bits; ~0: unused.
    var root: UInt64 = ~0
    var lastUse: UInt64 = 0
    let tables = PageTables()
    let blocks = BlockTable()
    /// Whether nothing was filled since all of it was forgotten.
    var isEmpty = true
    /// Whether a page that is not global was filled for supervisors, without EFLAGS.AC, since such pages were forgotten.
    var hasLocalSupervisorPages = false
    /// See `linkStamp`.
    var linkStamp: UInt32 = 0
  }

  /// What is taken from tables, as far as that matters to who has copies of entries.
  enum Loss {
    /// Anything.
    case all
    /// All pages of an address space that are not global.
    case local(Int)
    /// One linear page, in all address spaces.
    case page(UInt64)
    /// The right to write to a host page.
    case writes(UInt64)
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
  var onLoss: (Loss) -> Void = { _ in }
  /// How often entries were taken away.
  private(set) var lossCount: UInt64 = 0

  /// The tag that no address hits which falls on entry `index`: linear page 0, which falls on the first, or one that does
  /// not fall there.
  @inline(__always) static func noPage(_ index: Int) -> UInt64 {
    index & (pageCount - 1) == 0 ? 1 << 12 : 0
  }

  init() {
    emptyTable = PageTables.allocate(Self.pageCount)
    spaces = []
    // Room for all: more come while the guest runs, under its MXCSR, and that is no time for an array to move.
    spaces.reserveCapacity(Self.spaceCount)
    spaces.append(Space())
    globalCodePages.reserveCapacity(Self.globalCodePageCount)
  }

  deinit {
    free(emptyTable)
    for space in spaces {
      space.tables.deallocate()
      space.blocks.deallocate()
    }
  }

  func table(_ context: Context) -> UnsafeMutablePointer<TLBEntry> { spaces[current].tables.table(context) }

  /// The address space that a table of the context is of; nil: it is none of the context.
  func space(of table: UnsafeMutablePointer<TLBEntry>, _ context: Context) -> Int? {
    spaces.firstIndex { $0.tables.table(context) == table }
  }

  /// Where the current address space's blocks are looked for.
  var blocks: UnsafeMutablePointer<BlockCacheEntry> { spaces[current].blocks.entries }

  /// The entry that a linear address falls on. Pages that lie a multiple of the table's size apart fall on different ones.
  @inline(__always) static func index(of address: UInt64) -> Int {
    Int(truncatingIfNeeded: ((address ^ (address &>> UInt64(indexBits))) &>> 12) & UInt64(pageCount - 1))
  }

  /// Puts an entry into one of the current space's tables.
  @inline(__always)
  func fill(
    _ place: UnsafeMutablePointer<TLBEntry>, _ entry: TLBEntry, isGlobal: Bool, address: UInt64, pageShift: UInt64
  ) {
    let index = place - spaces[current].tables.entries
    spaces[current].tables.fill(index, entry, isGlobal: isGlobal, address: address, pageShift: pageShift)
    spaces[current].isEmpty = false
    if !isGlobal, index < Self.pageCount { spaces[current].hasLocalSupervisorPages = true }
  }

  /// Something was found in the current space that its tables do not hold, and that is lost when they are flushed.
  func noteFill() { spaces[current].isEmpty = false }

  /// Makes `root` the current address space; what is known of it is kept unless `flushes`.
  func select(root: UInt64, flushes: Bool) {
    useCount += 1
    if spaces[current].root != root {
      if let known = spaces.firstIndex(where: { $0.root == root }) {
        current = known
      } else {
        let space = unusedSpace()
        spaces[space].linkStamp = newStamp()
        if spaces[space].isEmpty, space != current { copyGlobal(from: current, to: space) }
        current = space
        spaces[space].root = root
      }
    }
    spaces[current].lastUse = useCount
    if flushes { flush(space: current) }
    onLinkStamps()
  }

  /// An address space that is empty but for global pages: one more, or else the one that was not used for the longest time.
  private func unusedSpace() -> Int {
    if spaces.count < Self.spaceCount, spaces[0].root != ~0 {
      spaces.append(Space())
      return spaces.count - 1
    }
    var oldest = 0
    for index in spaces.indices where spaces[index].lastUse < spaces[oldest].lastUse { oldest = index }
    flush(space: oldest)
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
    globalCodePages.contains(address >> 12) && spaces[current].tables.isGlobal(address, table)
  }

  /// Forgets everything, of all address spaces; or everything that is not global.
  func flushAll(keepingGlobal: Bool = false) {
    if keepingGlobal {
      for index in spaces.indices { flush(space: index) }
    } else {
      for index in spaces.indices { empty(space: index) }
      lose(.all)
      renewGlobalStamp()
    }
    onLinkStamps()
  }

  /// Forgets one PCID's translations, but not those of global pages (MOV to CR3, INVPCID type 1).
  func flush(pcid: UInt64) {
    for index in spaces.indices where spaces[index].root != ~0 && spaces[index].root & 0xfff == pcid {
      flush(space: index)
    }
    onLinkStamps()
  }

  private func empty(space index: Int) {
    guard !spaces[index].isEmpty else { return }
    spaces[index].linkStamp = newStamp()
    spaces[index].tables.removeAll()
    spaces[index].blocks.removeAll()
    spaces[index].isEmpty = true
    spaces[index].hasLocalSupervisorPages = false
  }

  /// Forgets what is not global.
  private func flush(space index: Int) {
    guard !spaces[index].isEmpty else { return }
    lose(.local(index))
    spaces[index].linkStamp = newStamp()
    spaces[index].tables.removeLocal()
    spaces[index].blocks.removeLocal()
    spaces[index].hasLocalSupervisorPages = false
  }

  private func lose(_ loss: Loss) {
    lossCount &+= 1
    onLoss(loss)
  }

  /// Gives an empty address space what is global of another.
  private func copyGlobal(from old: Int, to new: Int) {
    spaces[new].isEmpty = spaces[old].isEmpty
    spaces[new].tables.formUnion(globalOf: spaces[old].tables)
    spaces[new].blocks.formUnion(globalOf: spaces[old].blocks)
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
    let isGlobal = block.pointee.secondPage == ~0 && spaces[current].tables.isGlobal(address, table)
    spaces[current].blocks.insert(block, rip: rip, at: address, isGlobal: isGlobal)
    if isGlobal { noteGlobalCode(address >> 12) }
  }

  private func noteGlobalCode(_ page: UInt64) {
    guard !globalCodePages.contains(page) else { return }
    if globalCodePages.count == Self.globalCodePageCount {
      renewGlobalStamp()
      onLinkStamps()
    }
    globalCodePages.insert(page)
  }

  /// Forgets the blocks found by linear address, in all address spaces.
  func dropAllBlocks() {
    for index in spaces.indices where !spaces[index].isEmpty { spaces[index].blocks.removeAll() }
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
    var isLarge = false
    for index in spaces.indices where !spaces[index].isEmpty {
      let (tables, blocks) = (spaces[index].tables, spaces[index].blocks)
      tables.remove(at: address)
      let hadCode: Bool
      if tables.hugePages.mayHave(address) {
        isLarge = true
        tables.removeLargePages(at: address, tables.hugePages)
        hadCode = blocks.remove(hugeRegion: address)
      } else if tables.mediumPages.mayHave(address) {
        isLarge = true
        tables.removeLargePages(at: address, tables.mediumPages)
        hadCode = blocks.remove(mediumRegion: address)
      } else {
        hadCode = blocks.remove(page: address)
      }
      if hadCode { spaces[index].linkStamp = newStamp() }
      if hadCode, isLarge { renewGlobalStamp() }
    }
    lose(isLarge ? .all : .page(address & ~0xfff))
    if globalCodePages.contains(address >> 12) { renewGlobalStamp() }
    onLinkStamps()
  }

  /// Sends writes to one host page through the slow path from now on.
  func protect(hostPage: UInt64) {
    for space in spaces where !space.isEmpty { space.tables.protect(hostPage: hostPage) }
    lose(.writes(hostPage))
  }
}
