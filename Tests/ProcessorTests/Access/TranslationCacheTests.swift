import CHost
import Glibc
import Host
import Testing
import X86

@testable import Processor

/// Emptying the TLB and the block cache, of which little or much was used.
struct TranslationCacheTests {
  /// Puts `count` pages into the supervisor's table, from linear 0 on and from host address `host` on.
  private func fill(_ cache: TranslationCache, _ count: Int, host: UInt64 = 1 << 20, isGlobal: Bool = false) {
    for page in 0..<count {
      let address = UInt64(page) << 12
      let context = TranslationCache.Context.allCases[page / TranslationCache.pageCount % 3]
      cache.fill(
        cache.table(context) + TranslationCache.index(of: address),
        TLBEntry(readTag: address, writeTag: address, fetchTag: address, host: host + address),
        isGlobal: isGlobal, address: address, pageShift: 12)
    }
  }

  /// A block of flat code that reaches into no second page, for the caller to deallocate.
  private static func flatBlock() -> UnsafeMutablePointer<CodeBlock> {
    let raw = UnsafeMutableRawPointer.allocate(byteCount: MemoryLayout<CodeBlock>.size, alignment: 8)
    memset(raw, 0xff, MemoryLayout<CodeBlock>.size)
    let block = raw.bindMemory(to: CodeBlock.self, capacity: 1)
    block.pointee.key = CodeMode.flat.rawValue
    return block
  }

  /// Pages that any table has.
  private func pages(_ cache: TranslationCache) -> Int {
    TranslationCache.Context.allCases.reduce(0) { sum, context in
      let table = cache.table(context)
      return sum
        + (0..<TranslationCache.pageCount).count { index in
          let empty = TranslationCache.noPage(index)
          let entry = table[index]
          return entry.host != 0 || entry.readTag != empty || entry.writeTag != empty || entry.fetchTag != empty
        }
    }
  }

  @Test(arguments: [1, 40, 1000, 3 * TranslationCache.pageCount])
  func flushingEmptiesAll(count: Int) {
    let cache = TranslationCache()
    cache.select(root: 0x1000, flushes: false)
    for _ in 0..<3 {
      // Filling an entry twice is no other use of it.
      fill(cache, count)
      fill(cache, count)
      #expect(pages(cache) == count)
      cache.select(root: 0x1000, flushes: true)
      #expect(pages(cache) == 0)
    }
    // Pages that were flushed one by one come back to the list.
    fill(cache, count)
    for page in 0..<count { cache.flush(page: UInt64(page) << 12) }
    fill(cache, count)
    cache.select(root: 0x2000, flushes: false)
    #expect(pages(cache) == 0)
    cache.select(root: 0x1000, flushes: true)
    #expect(pages(cache) == 0)
  }

  /// SDM vol. 3A, 4.10.2.4 and 4.10.4.1: global pages outlast a change of CR3 and are there in every address space.
  @Test func globalPagesStay() {
    let cache = TranslationCache()
    cache.select(root: 0x1000, flushes: false)
    fill(cache, 60)
    fill(cache, 20, isGlobal: true)
    cache.select(root: 0x1000, flushes: true)
    #expect(pages(cache) == 20)
    cache.select(root: 0x2000, flushes: false)
    #expect(pages(cache) == 20)
    cache.flush(page: 0x3000)
    #expect(pages(cache) == 19)
    cache.select(root: 0x1000, flushes: false)
    #expect(pages(cache) == 19)
    // An entry that another page takes is not global any more.
    fill(cache, 5)
    cache.select(root: 0x1000, flushes: true)
    #expect(pages(cache) == 15)
    cache.flushAll()
    #expect(pages(cache) == 0)
    cache.select(root: 0x2000, flushes: false)
    #expect(pages(cache) == 0)
  }

  /// So does what is known of their code.
  @Test func codeOnGlobalPagesStays() {
    let cache = TranslationCache()
    cache.select(root: 0x1000, flushes: false)
    let block = Self.flatBlock()
    defer { block.deallocate() }
    fill(cache, 4, isGlobal: true)
    cache.remember(block, rip: 0x1010, table: cache.table(.supervisor))
    cache.remember(block, rip: 0x9010, table: cache.table(.supervisor))
    cache.select(root: 0x2000, flushes: true)
    #expect(cache.blocks[Chain.blockIndex(0x1010)].block == block)
    #expect(cache.blocks[Chain.blockIndex(0x9010)].block == nil)
    cache.flush(page: 0x1000)
    #expect(cache.blocks[Chain.blockIndex(0x1010)].block == nil)
  }

  @Test(arguments: [40, 3 * TranslationCache.pageCount])
  func protectingFindsThePage(count: Int) {
    let cache = TranslationCache()
    cache.select(root: 0x1000, flushes: false)
    fill(cache, count)
    cache.select(root: 0x2000, flushes: false)
    cache.protect(hostPage: 1 << 20 | 7 << 12)
    cache.select(root: 0x1000, flushes: false)
    let table = cache.table(.supervisor)
    #expect(table[7].writeTag == TranslationCache.noPage(7) && table[7].readTag == 7 << 12)
    #expect(table[8].writeTag == 8 << 12)
  }

  @Test(arguments: [5, 4000])
  func blocksAreForgotten(count: Int) {
    let cache = TranslationCache()
    cache.select(root: 0x1000, flushes: false)
    let block = Self.flatBlock()
    defer { block.deallocate() }
    func known() -> Int { (0..<TranslationCache.blockEntryCount).count { cache.blocks[$0].block != nil } }
    for _ in 0..<2 {
      for number in 0..<count { cache.remember(block, rip: UInt64(number), table: cache.table(.supervisor)) }
      #expect(known() == count)
      cache.flush(page: 0)
      #expect(known() == 0)
      for number in 0..<count { cache.remember(block, rip: UInt64(number), table: cache.table(.supervisor)) }
      cache.dropAllBlocks()
      #expect(known() == 0)
    }
  }

  /// An address space that takes another's place goes on with its global pages, and with no other.
  @Test func globalPagesOutlastTheirSpace() {
    let cache = TranslationCache()
    for root in 1...UInt64(TranslationCache.spaceCount) {
      cache.select(root: root << 12, flushes: false)
      fill(cache, 60)
      fill(cache, 20, isGlobal: true)
    }
    for root in 0x100...0x110 as ClosedRange<UInt64> {
      cache.select(root: root << 12, flushes: false)
      #expect(pages(cache) == 20)
      fill(cache, 60)
      fill(cache, 20, isGlobal: true)
      #expect(pages(cache) == 60)
    }
  }

  /// INVLPG finds the blocks on a page among many whose pages share its chain, and those that may reach into it.
  @Test func blocksOfOnePageAreForgotten() {
    let cache = TranslationCache()
    cache.select(root: 0x1000, flushes: false)
    let block = Self.flatBlock()
    defer { block.deallocate() }
    // Each page has its blocks at other offsets, so that each has an entry of its own. Pages 512 and 1024 apart share a
    // chain; 8 and 32,777 share a class as well, as do 520 and 33,289.
    let pages: [UInt64] = [8, 9, 520, 1032, 32_777, 33_289]
    func address(_ index: Int, _ number: Int) -> UInt64 { pages[index] << 12 | UInt64(index * 96 + number * 8) }
    func known(_ index: Int) -> Int {
      (0..<12).count { number in
        let entry = cache.blocks[Chain.blockIndex(address(index, number))]
        return entry.block != nil && entry.tag == address(index, number)
      }
    }
    for _ in 0..<3 {
      for index in pages.indices {
        for number in 0..<12 {
          cache.remember(block, rip: address(index, number), table: cache.table(.supervisor))
        }
      }
      let before = pages.indices.map(known)
      let stamp = cache.linkStamp
      cache.flush(page: pages[2] << 12)
      #expect(known(2) == 0 && cache.linkStamp != stamp)
      #expect(pages.indices.filter { $0 != 2 }.allSatisfy { known($0) == before[$0] })
      // From the page before, too.
      cache.flush(page: 10 << 12)
      #expect(known(1) == 0 && known(0) == before[0])
      let last = cache.linkStamp
      cache.flush(page: 700 << 12)
      #expect(cache.linkStamp == last)
    }
  }

  /// Whoever has copies hears of what is lost.
  @Test func lossesAreNamed() {
    let cache = TranslationCache()
    var losses: [String] = []
    cache.onLoss = { losses.append("\($0)") }
    cache.select(root: 0x1000, flushes: false)
    fill(cache, 20, isGlobal: true)
    #expect(!cache.spaces[cache.current].hasLocalSupervisorPages)
    fill(cache, 30)
    #expect(cache.spaces[cache.current].hasLocalSupervisorPages)
    cache.flush(page: 0x3123)
    cache.protect(hostPage: 1 << 20 | 7 << 12)
    cache.select(root: 0x1000, flushes: true)
    #expect(!cache.spaces[cache.current].hasLocalSupervisorPages)
    cache.flushAll()
    #expect(losses == ["page(12288)", "writes(1077248)", "local(0)", "all"] && cache.lossCount == 4)
  }

  /// What a change of address spaces costs. Prints; set RINGSIDE_BENCH to run it.
  @Test(.enabled(if: getenv("RINGSIDE_BENCH") != nil)) func costs() {
    let cache = TranslationCache()
    for count in [0, 8, 64, 400, 3000] {
      var spent: UInt64 = 0
      for _ in 0..<20_000 {
        fill(cache, count)
        let start = MonotonicTime.now
        cache.select(root: 0x1000, flushes: true)
        spent += MonotonicTime.now - start
      }
      print("flushing \(count) pages: \(spent / 20_000) ns")
    }
  }
}
