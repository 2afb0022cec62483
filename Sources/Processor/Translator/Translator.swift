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
/// which lies next to the code and is addressed relative to RIP; a block may lend them one (`BlockTranslation+Loans`).
/// `CPUState` is whole whenever the chain runs.
///
/// **Flags** are the host's where they can be. Checks of memory accesses destroy them; then they are made again where
/// somebody needs them, if their `FlagRecipe` allows it, or are saved before, with LAHF and SETO, and restored. At the
/// borders of blocks they are in the frame. So they are exact at every instruction that may leave.
///
/// **Memory.** For each base register the frame keeps a few pages that it pointed to, with the distance to the host's page;
/// blocks share them out, so that code that walks through one page does not take another's place. An access is compared
/// with its block's, and if the page is the same, done in place; if not, the TLB is looked up, then the page tables, out of
/// line. Only what the TLB allows gets into a slot, so devices, watched pages, pages with code, and accesses that cross
/// pages all leave for the chain. Another address space has other slots (`SlotStore`).
///
/// **Segments.** Where they are not flat, an access first has the offset of its last byte compared with what the frame has as
/// its segment's bound, and the base added, so that loading a segment register needs no new code. Whatever is not plainly
/// inside an ordinary segment is the chain's. Blocks of such code belong to one RIP, one base and one limit of CS: where
/// their branches go, and that this is within the limit, is known when they are decoded.
///
/// **Control.** A jump within the guest's page leads directly from translation to translation once both are there.
/// A direct jump to another page does so as long as nothing has changed in what linear pages mean
/// (`TranslationCache.linkStamp`), or the block cache has the same block all the same; otherwise, and for indirect jumps and
/// returns, the block cache is looked up in line. A block that is dropped has its entry overwritten with a jump that leaves,
/// or that leads to the block that has taken its place, so nobody needs to know who jumps to it. Calls and returns of 64-bit
/// code are the host's, too (`BlockTranslation+Branches`).
///
/// **Counting.** Each block subtracts its instructions from a register when it is entered. The register holds a slice of
/// the budget; when it runs out, attention is looked at.
final class Translator {
  let memory: CodeMemory
  let frame: UnsafeMutablePointer<TranslationFrame>
  /// Bytes of code memory in use for what runs often, from its beginning on.
  var used = 0
  /// The end of what is in use for what runs rarely. It is kept apart, so that what runs often is on few pages.
  var coldUsed = 0
  /// Where the code of blocks begins, behind the common routines.
  var firstBlockPosition = 0
  /// Where code that runs rarely begins: most code does.
  private let firstColdPosition: Int
  private var largestUse = 0
  private var emptyingCount: UInt64 = 0
  /// Blocks that were translated.
  var blockCount: UInt64 = 0
  /// Slots of other address spaces.
  let slotStore = SlotStore()
  /// Numbers of the large pages that the host was asked for last, for code and for what is kept apart from it.
  private var largePages = (hot: -1, cold: -1)
  var glue = Glue()

  /// Instructions between two looks at the attention word.
  static let slice: Int32 = 4096
  /// What an access that misses the TLB takes of a slice, by the time that it takes.
  static let missCost: Int32 = 128
  /// Most bytes that one block's translation takes.
  static let blockReserve = 64 << 10

  /// How many jumps to other pages whose links are void are made between two that are linked anew.
  static let lookUpCount: Int64 = 12
  /// How many refused groups of a block make another one go on in translated code.
  static let refusalLimit: UInt32 = 8

  /// What an empty slot has for a page: addresses there are not canonical, and nobody can guess it. Behind it are zeros, so
  /// that a guess would harm nobody but the guest. It is odd, as no page is.
  let noPage: UInt64
  private let emptyPage: UnsafeMutableRawPointer

  /// The guest's vector registers have upper halves.
  let hasWideVectors: Bool

  let options: TranslationOptions
  /// Mnemonics of instructions that the host would run otherwise than the guest's processor, or not at all.
  let refused: Set<UInt32>

  /// The instructions of the block that is being translated.
  let instructions: UnsafeMutablePointer<ZydisDecodedInstruction>
  let operands: UnsafeMutablePointer<ZydisDecodedOperand>
  static let operandCapacity = Int(ZYDIS_MAX_OPERAND_COUNT)
  /// Most instructions of a block that is translated.
  static let longestBlock = 64

  init(_ options: TranslationOptions, hasWideVectors: Bool) throws(HostFailure) {
    self.options = options
    self.hasWideVectors = hasWideVectors
    refused = Self.missingMnemonics.union(options.interpretsUnmatchedFlags ? FlagRules.host.unmatchedMnemonics : [])
    memory = try CodeMemory(size: options.capacity, dataSize: MemoryLayout<TranslationFrame>.size)
    firstColdPosition = memory.size / 3
    frame = memory.data.assumingMemoryBound(to: TranslationFrame.self)
    instructions = .allocate(capacity: Self.longestBlock)
    operands = .allocate(capacity: Self.longestBlock * Self.operandCapacity)
    emptyPage = .allocate(byteCount: 4096, alignment: 4096)
    emptyPage.initializeMemory(as: UInt8.self, repeating: 0, count: 4096)
    noPage = 0x4000_0000_0000_0000 | UInt64.random(in: 0..<1 << 60) & ~0xfff | 1
    frame.pointee.emptySlot = PageSlot(
      readPage: noPage, readAddend: noPageAddend, writePage: noPage, writeAddend: noPageAddend)
    // No table and no epoch: the slots are emptied before they are used.
    frame.pointee.sets.0.epoch = ~0
    frame.pointee.sets.1.epoch = ~0
    let unknown = KnownReturn(
      codeSelector: ~0, stackSelector: ~0, codeDescriptor: 0, stackDescriptor: 0, code: SegmentState(),
      stack: SegmentState())
    frame.pointee.knownReturns = (unknown, unknown, unknown, unknown)
    coldUsed = firstColdPosition
    precondition(InstructionTable.rows.count <= Int(LeaveCountCapacity), "each semantic function has a count")
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
  var isNearlyFull: Bool {
    firstColdPosition - used < Self.blockReserve || memory.size - coldUsed < Self.blockReserve
  }

  private var usedCount: Int { used + coldUsed - firstColdPosition }

  /// Forgets all translations. No operation refers to them any more.
  func removeAll() {
    if used > firstBlockPosition { emptyingCount &+= 1 }
    largestUse = max(largestUse, usedCount)
    used = firstBlockPosition
    coldUsed = firstColdPosition
  }

  /// What has been done until now.
  var statistics: TranslationStatistics {
    TranslationStatistics(
      blockCount: blockCount, codeSize: max(largestUse, usedCount), emptyingCount: emptyingCount,
      instructionCount: frame.pointee.translatedCount, leaveCounts: leaveCounts)
  }

  /// Where the code at a position runs.
  func address(of position: Int) -> UnsafeRawPointer { memory.executable + position }

  /// Where other translations enter a block that has none.
  var untranslatedEntry: UnsafeRawPointer { address(of: glue.enterBlock) }

  func handler(at position: Int) -> OperationHandler {
    unsafeBitCast(address(of: position), to: OperationHandler.self)
  }

  /// What an operation's handler was before the operation became one that enters its translation: before the thunk
  /// stands the handler whose place it took.
  func ownHandler(_ handler: OperationHandler) -> OperationHandler {
    let offset = unsafeBitCast(handler, to: UnsafeRawPointer.self) - memory.executable
    guard offset >= firstBlockPosition, offset < memory.size else { return handler }
    return (memory.executable + offset - 8).loadUnaligned(as: OperationHandler.self)
  }

  /// Code of every mode. Single steps are the interpreter's.
  static func translates(_ mode: CodeMode) -> Bool { !mode.contains(.stepping) }

  /// Instructions on general registers that the host does not have. It would run TZCNT as BSF, for one.
  private static let missingMnemonics: Set<UInt32> = {
    let groups: [(NativeFeatures, [ZydisMnemonic])] = [
      (.popcnt, [ZYDIS_MNEMONIC_POPCNT]), (.lzcnt, [ZYDIS_MNEMONIC_LZCNT]),
      (
        .bmi1,
        [
          ZYDIS_MNEMONIC_TZCNT, ZYDIS_MNEMONIC_ANDN, ZYDIS_MNEMONIC_BEXTR, ZYDIS_MNEMONIC_BLSI, ZYDIS_MNEMONIC_BLSMSK,
          ZYDIS_MNEMONIC_BLSR,
        ]
      ),
      (
        .bmi2,
        [
          ZYDIS_MNEMONIC_BZHI, ZYDIS_MNEMONIC_MULX, ZYDIS_MNEMONIC_PDEP, ZYDIS_MNEMONIC_PEXT, ZYDIS_MNEMONIC_RORX,
          ZYDIS_MNEMONIC_SARX, ZYDIS_MNEMONIC_SHLX, ZYDIS_MNEMONIC_SHRX,
        ]
      ),
    ]
    return Set(groups.filter { !NativeFeatures.host.contains($0.0) }.flatMap { $0.1.map(\.rawValue) })
  }()

  /// Has the code that has come to be on large pages. Each is asked for once until the memory is emptied.
  func useLargePages() {
    ask(for: used, &largePages.hot)
    ask(for: coldUsed, &largePages.cold)
  }

  private func ask(for position: Int, _ last: inout Int) {
    let number = position / CodeMemory.largePageSize
    guard number != last else { return }
    last = number
    memory.useLargePage(at: position)
  }

  // MARK: Links

  /// Lets the jump of an exit lead to `block` directly, if that is translated. See `ExitLink`.
  func link(_ record: UnsafePointer<ExitRecord>, to block: UnsafeMutablePointer<CodeBlock>) {
    guard record.pointee.link != ~0, let operation = record.pointee.operation, let entry = block.pointee.entry,
      entry != untranslatedEntry
    else { return }
    var code = HostAssembler(memory, at: Int(truncatingIfNeeded: record.pointee.link))
    let budget = HostOperand.register(GuestRegisters.budget)
    let target = entry - memory.executable
    let refund = Int32(operation.pointee.detail)
    guard isTranslation(at: target) else {
      // The chain charges the block when it enters it.
      code.arithmeticWide(0, budget, immediate: refund)
      code.jump(to: target)
      return
    }
    let charge = Int32(truncatingIfNeeded: block.pointee.instructionCount)
    code.arithmeticWide(5, budget, immediate: charge &- refund)
    code.jump(if: HostCondition.notSign, to: target + BlockEntry.checkSize)
    code.arithmeticWide(0, budget, immediate: charge)
    code.jump(to: target)
  }

  /// Lets the jump of an exit to another page lead to `block` directly, if that is translated: as long as the page that the
  /// jump is on is `page`, and what was found on pages is there. See `CrossExit`.
  func link(
    _ record: UnsafePointer<ExitRecord>, on page: UInt64, to block: UnsafeMutablePointer<CodeBlock>,
    by displacement: Int32, isGlobal: Bool
  ) {
    let stamp = isGlobal ? frame.pointee.globalLinkStamp : frame.pointee.linkStamp
    guard let operation = record.pointee.operation, let entry = block.pointee.entry, entry != untranslatedEntry,
      isTranslation(at: entry - memory.executable), stamp != 0
    else { return }
    let place = UnsafeRawPointer(record + 1) - memory.executable
    let link = (memory.writable + place).assumingMemoryBound(to: CrossLink.self)
    link.pointee.page = page
    link.pointee.block = block
    let otherwise = Int(truncatingIfNeeded: link.pointee.otherwise)
    var code = HostAssembler(memory, at: Int(truncatingIfNeeded: record.pointee.link))
    let second = GuestRegisters.second
    code.instruction(
      .primary, 0x81, reg: 7, .frame(isGlobal ? FrameOffset.globalLinkStamp : FrameOffset.linkStamp), size: 4,
      immediate: Int64(stamp), immediateSize: 4)
    code.jump(if: HostCondition.notZero, to: place + MemoryLayout<CrossLink>.stride)
    let confirmed = code.position
    code.load(second, .frame(FrameOffset.codePage))
    code.arithmetic(7, second, code.data(at: place + CrossLinkOffset.page))
    code.jump(if: HostCondition.notZero, to: otherwise)
    code.arithmeticWide(0, .register(second), immediate: displacement)
    code.store(second, .frame(FrameOffset.codePage))
    let targetPage = page &+ UInt64(bitPattern: Int64(displacement))
    emitConfirmation(at: place, target: targetPage | block.pointee.place, confirmed)
    let target = entry - memory.executable
    let charge = Int32(truncatingIfNeeded: block.pointee.instructionCount)
    let budget = HostOperand.register(GuestRegisters.budget)
    code.arithmeticWide(5, budget, immediate: charge &- Int32(operation.pointee.detail))
    code.jump(if: HostCondition.notSign, to: target + BlockEntry.checkSize)
    code.arithmeticWide(0, budget, immediate: charge)
    code.jump(to: target)
  }

  /// What a jump to another page does where its stamp is another's now: it looks whether the block cache has the same block
  /// for `target` all the same, and goes on at `confirmed`. `place` is that of its `CrossLink`.
  private func emitConfirmation(at place: Int, target: UInt64, _ confirmed: Int) {
    let link = (memory.writable + place).assumingMemoryBound(to: CrossLink.self)
    let otherwise = Int(truncatingIfNeeded: link.pointee.otherwise)
    let first = GuestRegisters.first
    let second = GuestRegisters.second
    let distance = Int32(truncatingIfNeeded: Int64(bitPattern: target &- link.pointee.page))
    let known = Int32(Chain.blockIndex(target) * MemoryLayout<BlockCacheEntry>.stride)
    func entry(_ offset: Int) -> HostOperand {
      .memory(base: first, index: nil, scale: 0, displacement: known + Int32(offset))
    }
    var code = HostAssembler(memory, at: place + MemoryLayout<CrossLink>.stride)
    code.load(second, .frame(FrameOffset.codePage))
    code.load(first, .frame(FrameOffset.blockCache))
    code.loadAddress(second, .memory(base: second, index: nil, scale: 0, displacement: distance))
    code.arithmetic(7, second, entry(BlockCacheOffset.tag))
    code.jump(if: HostCondition.notZero, to: otherwise)
    code.load(second, entry(BlockCacheOffset.block))
    code.arithmetic(7, second, code.data(at: place + CrossLinkOffset.block))
    code.jump(if: HostCondition.notZero, to: otherwise)
    code.arithmetic(5, .frame(FrameOffset.lookUpsLeft), immediate: 1)
    code.jump(if: HostCondition.sign, to: otherwise)
    code.jump(to: confirmed)
  }

  /// Whether a block's entry is that of a translation, not what leads to the chain.
  private func isTranslation(at entry: Int) -> Bool {
    (memory.writable + entry).loadUnaligned(as: UInt16.self) != BlockEntry.constantOpcode
  }

  /// Makes a dropped block's translation lead to what memory holds now, whoever jumps to it.
  func unlink(_ block: UnsafeMutablePointer<CodeBlock>) {
    guard let entry = block.pointee.entry, entry != untranslatedEntry else { return }
    let position = entry - memory.executable
    // One that has no translation leads there already.
    guard isTranslation(at: position) else { return }
    // The check of the budget leads to what runs rarely, before which stands what a dropped block leads to.
    let jump = position + BlockEntry.checkSize
    let stale = jump + Int((memory.writable + jump - 4).loadUnaligned(as: Int32.self)) - BlockEntry.staleSize
    // There are two ways in: the entry, and the place behind the check of the budget, where the block has been charged.
    var code = HostAssembler(memory, at: position)
    code.jump(to: stale)
    code.position = position + BlockEntry.checkSize
    code.jump(to: stale - BlockEntry.refundSize)
  }

  /// Lets the way into a dropped block lead to another that begins at the same place, if that is translated. It is dropped
  /// no more, so this lasts.
  func replace(_ dropped: UnsafeMutablePointer<CodeBlock>, by block: UnsafeMutablePointer<CodeBlock>) {
    guard let old = dropped.pointee.entry, old != untranslatedEntry, let entry = block.pointee.entry,
      entry != untranslatedEntry, isTranslation(at: entry - memory.executable)
    else { return }
    let position = old - memory.executable
    // See `unlink`.
    let isJump = (memory.writable + position).load(as: UInt8.self) == BlockEntry.jumpOpcode
    let stale = isJump ? position + 5 + Int((memory.writable + position + 1).loadUnaligned(as: Int32.self)) : position
    var code = HostAssembler(memory, at: stale)
    code.jump(to: entry - memory.executable)
  }
}

/// What a block's translation begins with: SUB budget, imm8; JS rel32 to what runs rarely.
enum BlockEntry {
  static let checkSize = 10
  /// What a dropped block's entry leads to. MOV R11, imm64; JMP rel32: R11 gets the block, and the chain its first
  /// operation.
  static let staleSize = 15
  /// ADD budget, imm32 before it, for who has charged the block.
  static let refundSize = 7
  /// The first two bytes of that MOV.
  static let constantOpcode: UInt16 = 0xbb49
  /// What the entry of a dropped block begins with.
  static let jumpOpcode: UInt8 = 0xe9
}

/// An exit that can be linked. Not yet linked, it is a JMP to what leaves. Linked: SUB budget, imm32 with what the block
/// costs less what this one had left; JNS behind the block's own check; and where the budget does not suffice, ADD budget,
/// imm32 with what the block costs and JMP to that check.
enum ExitLink {
  static let size = 7 + 6 + 7 + 5
}

/// An exit to another page. Not yet linked, it is a JMP to what leaves. Linked: CMP of a stamp, JNE; MOV, CMP of the code
/// page, JNE; ADD, MOV: the target's page; and an `ExitLink`.
enum CrossExit {
  static let size = 10 + 6 + 7 + 7 + 6 + 7 + 7 + ExitLink.size
  /// Room for what happens where the stamp is another: MOV, MOV, LEA; CMP, JNE of the address; MOV, CMP, JNE of the block;
  /// SUB, JS; JMP.
  static let confirmationSize = 7 + 7 + 7 + 7 + 6 + 7 + 7 + 6 + 8 + 6 + 5
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
    translator.blockCount &+= 1
    install(translation, translator)
  }

  /// Lets code go on in translated code that meets a refused group of accesses at `record` of `block`.
  func translateTail(of block: UnsafeMutablePointer<CodeBlock>, at record: UnsafePointer<ExitRecord>) {
    guard let translator, !translator.isNearlyFull, let operation = record.pointee.operation else { return }
    let control = nativeMXCSR()
    nativeSetMXCSR(XSaveArea.initialMXCSR)
    defer { nativeSetMXCSR(control) }
    let start = operation - UnsafePointer(block.pointee.operations + 1)
    guard var translation = BlockTranslation(translator, self, block, tailFrom: start), translation.emitTail() else {
      return
    }
    place(translation, translator)
    var code = HostAssembler(translator.memory, at: Int(truncatingIfNeeded: record.pointee.link))
    code.jump(to: translation.entry)
  }

  private func install(_ translation: BlockTranslation, _ translator: Translator) {
    let block = translation.block
    place(translation, translator)
    for (operation, position) in translation.resumptions {
      translation.operations[operation].handler = translator.handler(at: position)
    }
    if translation.isWorthEntering {
      block.pointee.operations.pointee.handler = translator.handler(at: translation.thunk)
    }
    block.pointee.entry = translator.address(of: translation.entry)
  }

  private func place(_ translation: BlockTranslation, _ translator: Translator) {
    tell(translation)
    translator.used = translation.hotEnd
    translator.coldUsed = translation.code.position
    translator.useLargePages()
  }
}
