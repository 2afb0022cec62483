import CHost
import Glibc

/// The software TLB of one address space: one table of pages for each set of access rights, one after another.
struct PageTables {
  let entries: UnsafeMutablePointer<TLBEntry>
  private let used = EntrySet(capacity: length)
  /// Of those in use: their page is global. Others may be here, too.
  private let global = EntrySet(capacity: length)
  /// Their page was, when they were filled, part of a larger one. They may be another page's by now, or empty.
  private let large = EntrySet(capacity: length)
  /// Where pages of 2 or 4 MiB, and of 1 GiB, may have entries, of which there is one for each 4 KiB.
  let mediumPages = AddressClasses<MediumRegion>()
  let hugePages = AddressClasses<HugeRegion>()

  private static let length = TranslationCache.pageCount * TranslationCache.Context.allCases.count

  init() {
    entries = Self.allocate(Self.length)
  }

  /// Empty entries, for as many tables as they make. Fresh memory, which reads as zero, costs nothing until it is used.
  static func allocate(_ count: Int) -> UnsafeMutablePointer<TLBEntry> {
    let entries = calloc(count, MemoryLayout<TLBEntry>.stride).unsafelyUnwrapped
      .bindMemory(to: TLBEntry.self, capacity: count)
    for first in stride(from: 0, to: count, by: TranslationCache.pageCount) { clear(entries, first) }
    return entries
  }

  func deallocate() {
    free(entries)
    for set in [used, global, large] { set.deallocate() }
    mediumPages.deallocate()
    hugePages.deallocate()
  }

  /// Makes an entry one that no address hits.
  static func clear(_ entries: UnsafeMutablePointer<TLBEntry>, _ index: Int) {
    let tag = TranslationCache.noPage(index)
    entries[index] = TLBEntry(readTag: tag, writeTag: tag, fetchTag: tag, host: 0)
  }

  @inline(__always)
  private func remove(_ index: Int) {
    Self.clear(entries, index)
    used.remove(index)
  }

  func table(_ context: TranslationCache.Context) -> UnsafeMutablePointer<TLBEntry> {
    entries + context.rawValue * TranslationCache.pageCount
  }

  func holds(_ table: UnsafeMutablePointer<TLBEntry>) -> Bool {
    (entries..<entries + Self.length).contains(table)
  }

  @inline(__always)
  func fill(_ index: Int, _ entry: TLBEntry, isGlobal: Bool, address: UInt64, pageShift: UInt64) {
    if pageShift > 12 { noteLargePage(index, address, pageShift) }
    entries[index] = entry
    used.insert(index)
    global.set(index, isGlobal)
  }

  private func noteLargePage(_ index: Int, _ address: UInt64, _ pageShift: UInt64) {
    if pageShift > MediumRegion.shift { hugePages.insert(address) } else { mediumPages.insert(address) }
    large.insert(index)
  }

  /// Whether the page where code has just been fetched by a table is global.
  func isGlobal(_ address: UInt64, _ table: UnsafeMutablePointer<TLBEntry>) -> Bool {
    let entry = TranslationCache.index(of: address)
    guard holds(table), table[entry].fetchTag == address & ~0xfff else { return false }
    return global.contains(table - entries + entry)
  }

  func removeAll() {
    used.visit { Self.clear(entries, $0) }
    for set in [used, global, large] { set.removeAll() }
    mediumPages.removeAll()
    hugePages.removeAll()
  }

  /// Forgets the pages that are not global.
  func removeLocal() { used.formIntersection(global) { Self.clear(entries, $0) } }

  /// Takes over the global pages of another address space, but where something else is already.
  func formUnion(globalOf other: Self) {
    other.used.visit(in: other.global, notIn: used) { index in
      used.insert(index)
      global.insert(index)
      entries[index] = other.entries[index]
      if other.large.contains(index) { large.insert(index) }
    }
    mediumPages.formUnion(other.mediumPages)
    hugePages.formUnion(other.hugePages)
  }

  /// Forgets what the tables have where an address falls.
  func remove(at address: UInt64) {
    let entry = TranslationCache.index(of: address)
    for context in 0..<TranslationCache.Context.allCases.count { remove(context * TranslationCache.pageCount + entry) }
  }

  /// Forgets what large pages there are in an address's region.
  func removeLargePages<Region>(at address: UInt64, _ classes: AddressClasses<Region>) {
    typealias Classes = AddressClasses<Region>
    let region = Classes.region(address)
    var isNeeded = false
    large.visit { entry in
      let tags = entries[entry]
      let empty = TranslationCache.noPage(entry)
      // All tags that are of a page are of the same.
      let tag = tags.readTag != empty ? tags.readTag : tags.writeTag != empty ? tags.writeTag : tags.fetchTag
      if tag != empty, Classes.region(tag) != region {
        isNeeded = isNeeded || Classes.areAlike(tag, address)
      } else {
        remove(entry)
        large.remove(entry)
      }
    }
    if !isNeeded { classes.remove(address) }
  }

  /// Sends writes to a host page through the slow path.
  func protect(hostPage: UInt64) {
    used.visit { index in
      if entries[index].host == hostPage { entries[index].writeTag = TranslationCache.noPage(index) }
    }
  }
}
