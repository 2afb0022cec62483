import CHost
import Glibc
import Memory

/// Decoded blocks, by guest-physical address and code mode.
///
/// Blocks and their operations live in two arenas that only grow; when one is full, everything is dropped at once, which
/// is cheap and rare. A write into a page that holds code kills the blocks that it touches: their operations get a handler
/// that looks the code up anew, so a chain that is inside such a block leaves it at its next instruction, and links from
/// elsewhere lead nowhere wrong. Memory of dead blocks comes back with the next emptying.
final class BlockStore {
  /// Changes when the store is emptied: pointers to blocks and operations from before are gone.
  private(set) var generation = 0
  /// Called when a RAM page begins to hold code, so that writes to it are seen: by this processor and by all others.
  var onProtect: (_ page: Int) -> Void = { _ in }
  /// Called when a RAM page holds no code any more.
  var onRelease: (_ page: Int) -> Void = { _ in }
  /// Called when a block is dropped by itself.
  var onKill: (UnsafeMutablePointer<CodeBlock>) -> Void = { _ in }
  /// `CodeBlock.entry` of blocks without a translation.
  var untranslatedEntry: UnsafeRawPointer?
  /// How many blocks have been dropped by themselves.
  private(set) var deathCount = 0
  /// Called when the store is emptied.
  var onEmpty: () -> Void = {}

  private let memory: GuestMemory
  private let operations: UnsafeMutablePointer<Operation>
  private let blocks: UnsafeMutablePointer<CodeBlock>
  private var operationCount = 0
  private var blockCount = 0
  private let operationCapacity: Int
  private let blockCapacity: Int

  /// Heads of the lists of blocks that start on a page, and of those that reach into it, by RAM page.
  private let pages: UnsafeMutablePointer<UnsafeMutablePointer<CodeBlock>?>
  private let secondPages: UnsafeMutablePointer<UnsafeMutablePointer<CodeBlock>?>
  private var usedPages: [Int] = []

  /// Direct-mapped front of the lists.
  private let recent: UnsafeMutablePointer<UnsafeMutablePointer<CodeBlock>?>
  private static let recentCount = 1 << 15

  /// - Parameter capacity: operations that fit before the store is emptied.
  init(memory: GuestMemory, capacity: Int = 1_000_000) {
    self.memory = memory
    operationCapacity = capacity
    blockCapacity = capacity / 4
    operations = .allocate(capacity: operationCapacity)
    blocks = .allocate(capacity: blockCapacity)
    let pageCount = memory.pageCount
    pages = Self.emptyTable(pageCount)
    secondPages = Self.emptyTable(pageCount)
    recent = Self.emptyTable(Self.recentCount)
  }

  /// Entries that are all nil. Fresh memory reads as zero, which is nil, and costs nothing until it is used.
  private static func emptyTable(_ count: Int) -> UnsafeMutablePointer<UnsafeMutablePointer<CodeBlock>?> {
    calloc(count, MemoryLayout<UnsafeMutablePointer<CodeBlock>?>.stride).unsafelyUnwrapped
      .bindMemory(to: UnsafeMutablePointer<CodeBlock>?.self, capacity: count)
  }

  deinit {
    operations.deallocate()
    blocks.deallocate()
    free(pages)
    free(secondPages)
    free(recent)
  }

  @inline(__always)
  private static func recentIndex(_ address: UInt64, _ key: UInt64) -> Int {
    Int(truncatingIfNeeded: (address ^ (address >> 15) ^ (key << 3)) & UInt64(recentCount - 1))
  }

  /// The live block at an address, decoded under `key` at a place in its code segment.
  func find(_ address: UInt64, key: UInt64, _ place: CodePlace) -> UnsafeMutablePointer<CodeBlock>? {
    let index = Self.recentIndex(address, key)
    if let block = recent[index], block.pointee.isAlive(at: address, key: key, place) { return block }
    guard let page = pageNumber(address) else { return nil }
    var next = pages[page]
    while let block = next {
      // Dead ones may be here: a block that reaches into another page is killed by way of that page's list.
      if block.pointee.isAlive(at: address, key: key, place) {
        recent[index] = block
        return block
      }
      next = block.pointee.nextOnPage
    }
    return nil
  }

  /// Room for one block of up to `count` operations; empties the store first if it is full.
  func makeRoom(for count: Int) {
    if operationCount + count > operationCapacity || blockCount == blockCapacity { removeAll() }
  }

  /// Where the next block's operations go; `makeRoom` has been called.
  var nextOperations: UnsafeMutablePointer<Operation> { operations + operationCount }

  /// Adds the block whose operations were written to `nextOperations`.
  func add(
    address: UInt64, key: UInt64, place: CodePlace, instructionCount: Int, byteCount: Int, operationCount count: Int,
    secondPage: UInt64?
  ) -> UnsafeMutablePointer<CodeBlock> {
    let block = blocks + blockCount
    blockCount += 1
    block.initialize(
      to: CodeBlock(
        operations: nextOperations, physicalAddress: address, key: key, place: place.start,
        secondPage: secondPage ?? ~0,
        instructionCount: UInt32(instructionCount), byteCount: UInt32(byteCount), operationCount: UInt32(count),
        isDead: 0, codeLimit: place.limit, entry: untranslatedEntry, refusalCount: 0, nextOnPage: nil,
        nextOnSecondPage: nil))
    operationCount += count
    if let page = pageNumber(address) {
      block.pointee.nextOnPage = pages[page]
      protect(page)
      pages[page] = block
      recent[Self.recentIndex(address, key)] = block
    }
    if let secondPage, let page = pageNumber(secondPage) {
      block.pointee.nextOnSecondPage = secondPages[page]
      protect(page)
      secondPages[page] = block
    }
    return block
  }

  private func pageNumber(_ address: UInt64) -> Int? {
    memory.offset(of: .init(address)).map { Int($0 >> 12) }
  }

  private func protect(_ page: Int) {
    guard pages[page] == nil, secondPages[page] == nil else { return }
    usedPages.append(page)
    onProtect(page)
  }

  /// Whether there are blocks on any page of `range`, by number.
  func holdsCode(_ range: Range<Int>) -> Bool {
    usedPages.contains { range.contains($0) && (pages[$0] != nil || secondPages[$0] != nil) }
  }

  /// `count` bytes at `address` of RAM page `page` were written: drops the blocks that cover any of them.
  func noteWrite(page: Int, address: UInt64, count: Int) {
    guard pages[page] != nil || secondPages[page] != nil else { return }
    // A page may answer at several addresses: what counts is where in it.
    let offset = address & 0xfff
    let end = offset &+ UInt64(count)
    pages[page] = filter(pages[page], \.nextOnPage) { block in
      let start = block.pointee.physicalAddress & 0xfff
      return start < end && offset < start &+ UInt64(block.pointee.byteCount)
    }
    // A block that reaches into this page covers its first bytes: up to 14 of its one instruction.
    secondPages[page] = filter(secondPages[page], \.nextOnSecondPage) { _ in address & 0xfff < 15 }
    if pages[page] == nil, secondPages[page] == nil { onRelease(page) }
  }

  /// The list without the blocks that `isHit` names and without dead ones; the former are killed.
  private func filter(
    _ head: UnsafeMutablePointer<CodeBlock>?,
    _ link: WritableKeyPath<CodeBlock, UnsafeMutablePointer<CodeBlock>?>,
    _ isHit: (UnsafeMutablePointer<CodeBlock>) -> Bool
  ) -> UnsafeMutablePointer<CodeBlock>? {
    var kept: UnsafeMutablePointer<CodeBlock>?
    var next = head
    while let block = next {
      next = block.pointee[keyPath: link]
      if block.pointee.isDead != 0 { continue }
      if isHit(block) {
        kill(block)
      } else {
        block.pointee[keyPath: link] = kept
        kept = block
      }
    }
    return kept
  }

  private func kill(_ block: UnsafeMutablePointer<CodeBlock>) {
    block.pointee.isDead = 1
    deathCount += 1
    onKill(block)
    for index in 0..<Int(block.pointee.operationCount) { block.pointee.operations[index].handler = Chain.stale }
  }

  /// Drops every block.
  func removeAll() {
    for page in usedPages where pages[page] != nil || secondPages[page] != nil {
      pages[page] = nil
      secondPages[page] = nil
      onRelease(page)
    }
    usedPages.removeAll(keepingCapacity: true)
    recent.update(repeating: nil, count: Self.recentCount)
    operationCount = 0
    blockCount = 0
    generation += 1
    onEmpty()
  }
}
