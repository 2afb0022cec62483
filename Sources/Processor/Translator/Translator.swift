import CHost
import CZydis
import Host
import X86

/// Binary translation: guest code becomes host code that runs in the host's own registers.
///
/// **One machine with two gears.** Blocks are the interpreter's. Each begins with an operation that counts how often the
/// block is entered; when it has been entered often enough, the block is translated, and that operation's handler becomes
/// a *thunk* into the translation. So translated code is one more chain handler, one that does many operations at once,
/// and whatever it cannot do it hands to the chain: it *leaves* at an operation, the interpreter's handler for that
/// operation runs, and the next operation's handler, another thunk, brings the chain back into the translation. Coverage
/// is complete from the start, and faults, device accesses, self-modifying code, single steps and events have one
/// implementation.
///
/// **Registers.** Twelve guest registers live in host registers (`GuestRegisters`), the others in the `TranslationFrame`,
/// which lies next to the code and is addressed relative to RIP. `CPUState` is whole whenever the chain runs.
///
/// **Flags** are the host's where they can be. Checks of memory accesses destroy them, so they are saved before, with LAHF
/// and SETO, if an instruction has written them since they were saved last; whoever reads them later has them restored.
/// At the borders of blocks they are in the frame. So they are exact at every instruction that may leave.
///
/// **Memory.** For each base register the frame keeps the page that it pointed to last, with the distance to the host's
/// page. An access is compared with that page and, if it is the same, done in place; if not, the TLB is looked up, then the
/// page tables, out of line. Only what the TLB allows gets into a slot, so devices, watched pages, pages with code, and
/// accesses that cross pages all leave for the chain.
///
/// **Segments.** Where they are not flat, an access first has the offset of its last byte compared with what the frame has as
/// its segment's bound, and the base added, so that loading a segment register needs no new code. Whatever is not plainly
/// inside an ordinary segment is the chain's. Blocks of such code belong to one RIP, one base and one limit of CS: where
/// their branches go, and that this is within the limit, is known when they are decoded.
///
/// **Control.** A jump within the guest's page leads directly from translation to translation once both are there.
/// Elsewhere the block cache is looked up in line: nothing is known of other pages' translations. A block that is dropped
/// has its entry overwritten with a jump that leaves, so nobody needs to know who jumps to it.
///
/// **Counting.** Each block subtracts its instructions from a register when it is entered. The register holds a slice of
/// the budget; when it runs out, attention is looked at.
final class Translator {
  let memory: CodeMemory
  let frame: UnsafeMutablePointer<TranslationFrame>
  /// Bytes of code memory in use.
  var used = 0
  /// Where the code of blocks begins, behind the common routines.
  var firstBlockPosition = 0
  private var largestUse = 0
  private var emptyingCount: UInt64 = 0
  /// Blocks that were translated.
  var blockCount: UInt64 = 0
  var glue = Glue()

  /// Instructions between two looks at the attention word.
  static let slice: Int32 = 4096
  /// Most bytes that one block's translation takes.
  static let blockReserve = 64 << 10

  /// A page that no slot holds: addresses on it are not canonical, and nobody can guess it. Behind it is a page of zeros,
  /// so that a guess would harm nobody but the guest.
  let noPage: UInt64
  private let emptyPage: UnsafeMutableRawPointer

  /// The guest's vector registers have upper halves.
  let hasWideVectors: Bool

  let options: TranslationOptions

  /// The instructions of the block that is being translated.
  let instructions: UnsafeMutablePointer<ZydisDecodedInstruction>
  let operands: UnsafeMutablePointer<ZydisDecodedOperand>
  static let operandCapacity = Int(ZYDIS_MAX_OPERAND_COUNT)
  /// Most instructions of a block that is translated.
  static let longestBlock = 64

  init(_ options: TranslationOptions, hasWideVectors: Bool) throws(HostFailure) {
    self.options = options
    self.hasWideVectors = hasWideVectors
    memory = try CodeMemory(size: options.capacity, dataSize: MemoryLayout<TranslationFrame>.size)
    frame = memory.data.assumingMemoryBound(to: TranslationFrame.self)
    instructions = .allocate(capacity: Self.longestBlock)
    operands = .allocate(capacity: Self.longestBlock * Self.operandCapacity)
    emptyPage = .allocate(byteCount: 4096, alignment: 4096)
    emptyPage.initializeMemory(as: UInt8.self, repeating: 0, count: 4096)
    noPage = 0x4000_0000_0000_0000 | UInt64.random(in: 0..<1 << 60) & ~0xfff
    frame.pointee.emptySlot = PageSlot(
      readPage: noPage, readAddend: noPageAddend, writePage: noPage, writeAddend: noPageAddend)
    // No table and no epoch: the slots are emptied before they are used.
    frame.pointee.sets.0.epoch = ~0
    frame.pointee.sets.1.epoch = ~0
    emitGlue()
    firstBlockPosition = used
    nameGlue()
  }

  deinit {
    emptyPage.deallocate()
    instructions.deallocate()
    operands.deallocate()
  }

  /// What is to be added to an address on `noPage`.
  var noPageAddend: UInt64 { UInt64(UInt(bitPattern: emptyPage)) &- noPage }

  /// Whether another block's translation might not fit.
  var isNearlyFull: Bool { memory.size - used < Self.blockReserve }

  /// Forgets all translations. No operation refers to them any more.
  func removeAll() {
    if used > firstBlockPosition { emptyingCount &+= 1 }
    largestUse = max(largestUse, used)
    used = firstBlockPosition
  }

  /// What has been done until now.
  var statistics: TranslationStatistics {
    TranslationStatistics(
      blockCount: blockCount, codeSize: max(largestUse, used), emptyingCount: emptyingCount,
      instructionCount: frame.pointee.translatedCount)
  }

  /// Where the code at a position runs.
  func address(of position: Int) -> UnsafeRawPointer { memory.executable + position }

  /// Where other translations enter a block that has none.
  var untranslatedEntry: UnsafeRawPointer { address(of: glue.enterBlock) }

  func handler(at position: Int) -> OperationHandler {
    unsafeBitCast(address(of: position), to: OperationHandler.self)
  }

  /// Code of every mode. Single steps are the interpreter's.
  static func translates(_ mode: CodeMode) -> Bool { !mode.contains(.stepping) }

  // MARK: Links

  /// Lets the jump of an exit lead to `block` directly, if that is translated.
  func link(_ record: UnsafePointer<ExitRecord>, to block: UnsafeMutablePointer<CodeBlock>) {
    guard record.pointee.link != ~0, let entry = block.pointee.entry, entry != untranslatedEntry else { return }
    let place = Int(truncatingIfNeeded: record.pointee.link)
    let target = entry - memory.executable
    // The second jump leads to the block; then the first leads to the code before the second.
    let second = place + 5 + ExitLink.refundSize
    (memory.writable + second + 1).storeBytes(of: Int32(truncatingIfNeeded: target - second - 5), as: Int32.self)
    (memory.writable + place + 1).storeBytes(of: 0, as: Int32.self)
  }

  /// Makes a dropped block's translation lead to what memory holds now, whoever jumps to it.
  func unlink(_ block: UnsafeMutablePointer<CodeBlock>) {
    guard let entry = block.pointee.entry, entry != untranslatedEntry else { return }
    let position = entry - memory.executable
    // The block's first bytes: a jump to where a block without a translation is entered. R11 names the block.
    let constant = position - BlockEntry.staleSize
    // One that has no translation leads there already.
    guard (memory.writable + position).loadUnaligned(as: UInt16.self) != BlockEntry.constantOpcode else { return }
    let jump = memory.writable + position
    jump.storeBytes(of: 0xe9, as: UInt8.self)
    (jump + 1).storeBytes(of: Int32(truncatingIfNeeded: constant - position - 5), as: Int32.self)
  }
}

/// Code before each block's entry: R11 gets the block, and the chain its first operation.
enum BlockEntry {
  /// MOV R11, imm64; JMP rel32.
  static let staleSize = 15
  /// The first two bytes of that MOV.
  static let constantOpcode: UInt16 = 0xbb49
}

/// An exit that can be linked: JMP to what leaves, later to the next instruction; ADD budget, imm32; JMP to the block.
enum ExitLink {
  static let refundSize = 7
}

extension SoftwareProcessor {
  /// Translates a block that has been entered often; from then on it is entered there.
  func translateBlock(_ block: UnsafeMutablePointer<CodeBlock>) {
    let lead = block.pointee.operations
    lead.pointee.handler = TranslationHandlers.pass
    let mode = CodeMode(rawValue: block.pointee.key)
    guard let translator, block.pointee.isDead == 0, Translator.translates(mode), !translator.isNearlyFull else {
      return
    }
    // Collections that grow compute with floating point, which shall not trap.
    let control = nativeMXCSR()
    nativeSetMXCSR(XSaveArea.initialMXCSR)
    defer { nativeSetMXCSR(control) }
    guard var translation = BlockTranslation(translator, self, block) else { return }
    guard translation.emit() else {
      // Other translations may jump to what leads to the chain.
      let entry = translation.emitOnlyEntry()
      translator.used = translation.code.position
      block.pointee.entry = translator.address(of: entry)
      return
    }
    translator.used = translation.code.position
    translator.blockCount &+= 1
    tell(translation)
    for (operation, position) in translation.resumptions {
      translation.operations[operation].handler = translator.handler(at: position)
    }
    if translation.isWorthEntering { lead.pointee.handler = translator.handler(at: translation.thunk) }
    block.pointee.entry = translator.address(of: translation.entry)
  }
}
