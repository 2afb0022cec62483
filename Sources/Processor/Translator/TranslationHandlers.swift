import CHost
import X86

/// What translated code and the chain call of each other.
enum TranslationHandlers {
  /// Brings a page into the TLB for an access at a linear address with the current rights. 0 if the access is one for the
  /// chain.
  typealias Fill = @convention(c) (UnsafeMutablePointer<CPUState>, UInt64, UInt64) -> UInt64

  /// The first operation of a block that is not translated: counts down, and has the block translated.
  static let warmUp: OperationHandler = { cpu, op, a, b, result, kind in
    let heat = op.pointee.immediate &- 1
    UnsafeMutablePointer(mutating: op).pointee.immediate = heat
    guard heat == 0 else { return Chain.next(cpu, op, a, b, result, kind) }
    translate(cpu)
    return op.pointee.handler(cpu, op, a, b, result, kind)
  }

  @inline(never)
  private static func translate(_ cpu: CPU) {
    guard let block = cpu.pointee.engine.block else { return }
    Chain.processor(cpu).translateBlock(block)
  }

  /// The first operation of a block that need not be translated.
  static let pass: OperationHandler = { cpu, op, a, b, result, kind in
    return Chain.next(cpu, op, a, b, result, kind)
  }

  /// Enters the translation at an operation that the chain has reached with lazy flags.
  static let makeFlagsWhole: OperationHandler = { cpu, op, a, b, result, kind in
    return op.pointee.handler(
      cpu, op, 0, 0, LazyFlags.materialize(a, b, result, kind), LazyFlags.materialized)
  }

  /// Enters the block that `EngineArea.block` names; RIP is at its beginning.
  static let enterBlock: OperationHandler = { cpu, op, a, b, result, kind in
    let block = cpu.pointee.engine.block.unsafelyUnwrapped
    if block.pointee.isDead != 0 { replaceDropped(cpu, block) }
    return Chain.enter(cpu, block, a, b, result, kind)
  }

  @inline(never)
  private static func replaceDropped(_ cpu: CPU, _ block: UnsafeMutablePointer<CodeBlock>) {
    let context = cpu.pointee.engine.context.unsafelyUnwrapped
    Unmanaged<SoftwareProcessor>.fromOpaque(context)._withUnsafeGuaranteedRef { $0.replaceDropped(block) }
  }

  /// The budget is used up or attention is wanted; no instruction of the block has run.
  static let stop: OperationHandler = { cpu, op, a, b, result, kind in
    return Chain.stopBetweenBlocks(cpu, op, a, b, result, kind)
  }

  /// Takes the direct branch `op` and links the jump that led here to where it goes.
  static let follow: OperationHandler = { cpu, op, a, b, result, kind in
    linkExit(cpu, op)
    return Chain.take(cpu, op, a, b, result, kind)
  }

  /// The same of a jump to another page.
  static let followAcross: OperationHandler = { cpu, op, a, b, result, kind in
    linkAcross(cpu, op)
    return Chain.take(cpu, op, a, b, result, kind)
  }

  @inline(never)
  private static func linkAcross(_ cpu: CPU, _ op: Op) {
    let target = (cpu.pointee.rip &+ op.pointee.immediate) & op.pointee.addressMask
    let context = cpu.pointee.engine.context.unsafelyUnwrapped
    Unmanaged<SoftwareProcessor>.fromOpaque(context)._withUnsafeGuaranteedRef { $0.linkAcross(to: target) }
  }

  @inline(never)
  private static func linkExit(_ cpu: CPU, _ op: Op) {
    guard let link = op.pointee.link else { return }
    let block = link.assumingMemoryBound(to: CodeBlock.self)
    guard block.pointee.isDead == 0 else { return }
    let context = cpu.pointee.engine.context.unsafelyUnwrapped
    Unmanaged<SoftwareProcessor>.fromOpaque(context)._withUnsafeGuaranteedRef { processor in
      guard let translator = processor.translator, let record = translator.frame.pointee.record else { return }
      translator.link(record, to: block)
    }
  }

  /// A group of accesses crosses into another page at `op`, which the chain runs.
  static let refuseGroup: OperationHandler = { cpu, op, a, b, result, kind in
    return noteRefusal(cpu)(cpu, op, a, b, result, kind)
  }

  /// Returns the instruction's own handler.
  @inline(never)
  private static func noteRefusal(_ cpu: CPU) -> OperationHandler {
    let context = cpu.pointee.engine.context.unsafelyUnwrapped
    return Unmanaged<SoftwareProcessor>.fromOpaque(context)._withUnsafeGuaranteedRef { $0.noteRefusedGroup() }
  }

  /// Translated code goes on under another table of pages, by whose set of slots (0: CPL 0).
  typealias ExchangeSlots = @convention(c) (UnsafeMutablePointer<CPUState>, UInt64) -> Void

  static let exchangeSlots: ExchangeSlots = { cpu, set in
    let context = cpu.pointee.engine.context.unsafelyUnwrapped
    Unmanaged<SoftwareProcessor>.fromOpaque(context)._withUnsafeGuaranteedRef { $0.exchangeSlots(Int(set)) }
  }

  /// For a read (0), for a write (1), or for a read of what may be written as it is (2).
  static let fill: Fill = { cpu, address, purpose in
    let context = cpu.pointee.engine.context.unsafelyUnwrapped
    return Unmanaged<SoftwareProcessor>.fromOpaque(context)._withUnsafeGuaranteedRef {
      $0.fillForTranslation(address, for: purpose == 1 ? .write : .read, isWrite: purpose != 0) ? 1 : 0
    }
  }
}

extension SoftwareProcessor {
  /// Links the exit to another page at which translated code has left, if the block at the target is known.
  fileprivate func linkAcross(to target: UInt64) {
    guard let translator, let record = translator.frame.pointee.record, let table = cpu.pointee.engine.tlb else {
      return
    }
    translator.frame.pointee.lookUpsLeft = Translator.lookUpCount
    let known = translations.blocks[Chain.blockIndex(target)]
    guard known.tag == target, let block = known.block, block.pointee.key == cpu.pointee.engine.blockKey,
      block.pointee.isDead == 0
    else { return }
    let page = cpu.pointee.rip & ~0xfff
    guard let displacement = Int32(exactly: Int64(bitPattern: (target & ~0xfff) &- page)) else { return }
    let isGlobal = block.pointee.secondPage == ~0 && translations.isGlobalCode(at: target, table)
    translator.link(record, on: page, to: block, by: displacement, isGlobal: isGlobal)
  }

  /// Lets what jumps to the translation of a block that was dropped go on in that of the block that is there now.
  fileprivate func replaceDropped(_ block: UnsafeMutablePointer<CodeBlock>) {
    guard let translator, block.pointee.secondPage == ~0,
      let new = blocks.find(block.pointee.physicalAddress, key: block.pointee.key, CodePlace(of: block)),
      new.pointee.secondPage == ~0
    else { return }
    translator.replace(block, by: new)
  }

  /// Translated code has left because a group of accesses crosses into another page. One by one they may be all right.
  /// Returns the handler of the instruction at which it left.
  fileprivate func noteRefusedGroup() -> OperationHandler {
    guard let translator, let block = cpu.pointee.engine.block,
      let record = translator.frame.pointee.record
    else { return Chain.semanticHandler }
    let own = UnsafeRawPointer(record + 1).loadUnaligned(as: OperationHandler.self)
    guard block.pointee.isDead == 0 else { return own }
    block.pointee.refusalCount &+= 1
    if block.pointee.refusalCount >= Translator.refusalLimit { translateTail(of: block, at: record) }
    return own
  }

  fileprivate func exchangeSlots(_ set: Int) {
    guard let translator, let table = cpu.pointee.engine.tlb else { return }
    translator.slotStore.exchange(
      set, of: translator.frame, translations, to: table, epoch: cpu.pointee.engine.translationEpoch)
  }

  /// Whether the TLB has the page of an address, for writing if `isWrite`, after an access of this kind.
  fileprivate func fillForTranslation(_ address: UInt64, for access: AccessKind, isWrite: Bool) -> Bool {
    let losses = translations.lossCount
    let deaths = blocks.deathCount
    do throws(GuestFault) {
      _ = try translate(linear(address), for: access, rights: .current)
    } catch {
      // The chain runs the instruction and meets the fault again.
      return false
    }
    // Marking a page as accessed is a write, which may have dropped code.
    guard translations.lossCount == losses, blocks.deathCount == deaths,
      let table = cpu.pointee.engine.tlb
    else { return false }
    let entry = table[TranslationCache.index(of: address)]
    return (isWrite ? entry.writeTag : entry.readTag) == address & ~0xfff
  }
}

/// Byte offsets in the structures that generated code reads.
enum RecordOffset {
  static let operation = MemoryLayout<ExitRecord>.offset(of: \.operation)!
  static let handler = MemoryLayout<ExitRecord>.offset(of: \.handler)!
  static let block = MemoryLayout<ExitRecord>.offset(of: \.block)!
  static let place = MemoryLayout<ExitRecord>.offset(of: \.place)!
}

enum BlockOffset {
  static let operations = MemoryLayout<CodeBlock>.offset(of: \.operations)!
  static let place = MemoryLayout<CodeBlock>.offset(of: \.place)!
  static let key = MemoryLayout<CodeBlock>.offset(of: \.key)!
  static let instructionCount = MemoryLayout<CodeBlock>.offset(of: \.instructionCount)!
  static let entry = MemoryLayout<CodeBlock>.offset(of: \.entry)!
}

enum CrossLinkOffset {
  static let page = MemoryLayout<CrossLink>.offset(of: \.page)!
  static let block = MemoryLayout<CrossLink>.offset(of: \.block)!
}

enum BlockCacheOffset {
  static let tag = MemoryLayout<BlockCacheEntry>.offset(of: \.tag)!
  static let block = MemoryLayout<BlockCacheEntry>.offset(of: \.block)!
}

enum SlotSetOffset {
  static let tlb = MemoryLayout<PageSlots>.offset(of: \.tlb)!
  static let epoch = MemoryLayout<PageSlots>.offset(of: \.epoch)!
  static let filledCount = MemoryLayout<PageSlots>.offset(of: \.filledCount)!
  static let keptCount = MemoryLayout<PageSlots>.offset(of: \.keptCount)!
  static let isListed = MemoryLayout<PageSlots>.offset(of: \.isListed)!
  static let filled = MemoryLayout<PageSlots>.offset(of: \.filled)!
}

enum SlotOffset {
  static let readPage = MemoryLayout<PageSlot>.offset(of: \.readPage)!
  static let readAddend = MemoryLayout<PageSlot>.offset(of: \.readAddend)!
  static let writePage = MemoryLayout<PageSlot>.offset(of: \.writePage)!
  static let writeAddend = MemoryLayout<PageSlot>.offset(of: \.writeAddend)!
}
