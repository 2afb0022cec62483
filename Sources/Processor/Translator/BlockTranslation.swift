import CHost
import CZydis
import Memory
import X86

/// The translation of one block while it is made.
///
/// Instructions are emitted one after another. One that has no translation leaves for the chain; what follows it is
/// entered from the chain by a thunk. Code that runs rarely (refills, exits, records) comes behind the block's own.
struct BlockTranslation {
  let translator: Translator
  let processor: SoftwareProcessor
  let block: UnsafeMutablePointer<CodeBlock>
  let mode: CodeMode
  /// The block's operations without the one that counts entries; the last is the link to what follows.
  let operations: UnsafeMutablePointer<Operation>
  var code: HostAssembler

  /// Where the arithmetic flags are. At any instruction one of the two holds, or there is a recipe.
  var flagsAreInHost = false
  var flagsAreInFrame = true
  /// The flags are nowhere, and nobody will look for them before they are written.
  var flagsAreLost = false
  /// The chain may take over at any instruction.
  private(set) var keepsEverything = false
  /// How the flags can be made again.
  var flagRecipe: FlagRecipe?

  /// The guest's vector registers are known to be in the host's.
  var vectorsAreReady = false
  /// The guest's x87 registers are known to be in the host's unit.
  var x87IsReady = false
  /// The last x87 instruction, while its pointers have not been stored.
  var x87Pointers: Int?
  /// The page that the block is on.
  private let page: UnsafePointer<UInt8>
  /// The block's bytes.
  let bytes: UnsafePointer<UInt8>

  /// Of the translation of a block's rest: the number of the instruction at which a group of accesses was refused. There
  /// are no groups then.
  let tailStart: Int?
  /// Ranges off base registers that slots have been checked for, by slot.
  var readGroups: [Int: Group] = [:]
  var writeGroups: [Int: Group] = [:]
  /// How many of the block's instructions were decoded; the others have no translation.
  private(set) var decodedCount = 0

  /// Host registers that the block has lent.
  var loans: [Loan] = []

  /// Code to be put behind the block's.
  var cold: [ColdSite] = []
  /// Operations that are entered from the chain, and where.
  var resumptions: [(operation: Int, position: Int)] = []
  var entry = 0
  var ended = false

  /// The number of the instruction that is being translated.
  var current = 0

  /// What is where, if somebody wants to read it.
  var marks: [CodeListing.Mark] = []

  /// Before anything leaves there, the flags are brought into the frame.
  enum ColdSite {
    /// An access missed its slot, which is refilled, and R11 is the address and RAX the distance to the host's page again.
    case refill(HostAssembler.Fixup, FlagSource, RefillRequest, back: Int, operation: Int)
    /// Brings the vector registers in, or leaves.
    case loadVectors(HostAssembler.Fixup, FlagSource, back: Int, operation: Int)
    /// Leaves at an operation, which its own handler runs.
    case leave(HostAssembler.Fixup, FlagSource, operation: Int)
    /// Leaves at a direct branch that is taken.
    case follow(HostAssembler.Fixup, FlagSource, operation: Int)
    /// The same to the block's own beginning.
    case repetition(HostAssembler.Fixup, FlagSource, operation: Int)
    /// The same with the flags in the frame: at an `ExitLink` that is not linked, or where there is none.
    case leaveToLink(HostAssembler.Fixup, operation: Int, link: Int?)
    /// A taken branch to another page.
    case cross(HostAssembler.Fixup, FlagSource, operation: Int)
    /// The same where it is not linked, or its link is void; or where there is none.
    case crossing(HostAssembler.Fixup, operation: Int, link: Int?)

    /// Whether it belongs to a branch that is taken, which it is as often as not.
    var isBranch: Bool {
      switch self {
      case .follow, .repetition, .cross: true
      default: false
      }
    }
  }

  /// Nil for a block that is not in memory.
  init?(
    _ translator: Translator, _ processor: SoftwareProcessor, _ block: UnsafeMutablePointer<CodeBlock>,
    tailFrom tailStart: Int? = nil
  ) {
    let address = GuestPhysicalAddress(block.pointee.physicalAddress)
    guard let page = processor.memory.hostPage(of: address) else { return nil }
    self.page = UnsafePointer(page.assumingMemoryBound(to: UInt8.self))
    let start = Int(address.rawValue & 0xfff)
    bytes =
      block.pointee.secondPage == ~0
      ? self.page + start : processor.joinBytes(self.page + start, 4096 - start, block.pointee.secondPage)
    self.translator = translator
    self.processor = processor
    self.block = block
    mode = CodeMode(rawValue: block.pointee.key)
    operations = block.pointee.operations + 1
    code = HostAssembler(translator.memory, at: translator.used)
    isListed = tailStart == nil && processor.isListed(block)
    self.tailStart = tailStart
  }

  /// Somebody wants to read it.
  let isListed: Bool

  /// Which slots its code uses.
  var slotSet: Int { mode.contains(.unprivileged) ? 1 : 0 }
  var is64: Bool { mode.contains(.code64) }
  var isFlat: Bool { mode.contains(.flat) }
  var codeBits: Int { is64 ? 64 : mode.contains(.code32) ? 32 : 16 }
  var op: Operation { operations[current] }
  var instruction: UnsafeMutablePointer<ZydisDecodedInstruction> { decoded(current) }
  var operands: UnsafeMutablePointer<ZydisDecodedOperand> { decodedOperands(current) }

  func decoded(_ index: Int) -> UnsafeMutablePointer<ZydisDecodedInstruction> { translator.instructions + index }
  func decodedOperands(_ index: Int) -> UnsafeMutablePointer<ZydisDecodedOperand> {
    translator.operands + index * Translator.operandCapacity
  }
  /// `CodeBlock.place`: in flat code the offset of the first byte in its page, in other code its RIP.
  var place: Int64 { Int64(block.pointee.place) }
  /// The same of the byte behind the current instruction.
  var nextPlace: Int64 { place + Int64(op.offset) + Int64(op.length) }

  /// Shortest run of instructions that pays for entering translated code from the chain and leaving it. One that goes on
  /// in the next block always pays.
  private var shortestRun: Int { translator.options.isEager ? 1 : 4 }

  /// The rest of a block, which its whole translation enters.
  var isTail: Bool { tailStart != nil }

  // MARK: The whole block

  /// Emits everything. False if there is nothing to gain.
  mutating func emit() -> Bool {
    let count = Int(block.pointee.instructionCount)
    guard decodeAll(count) else { return false }
    let beginning = self
    arrangeLoans(count)
    if emitInstructions(count) { return true }
    guard !loans.isEmpty || flagsAreLost else { return false }
    // The chain takes part: it wants registers and flags where they belong.
    self = beginning
    keepsEverything = true
    return emitInstructions(count)
  }

  /// Emits what comes from `tailStart` on, up to the first instruction that has no translation. It is entered with flags and
  /// registers where they belong, and the block has been charged. False if there is nothing to gain.
  mutating func emitTail() -> Bool {
    let count = Int(block.pointee.instructionCount)
    guard let tailStart, decodeAll(count) else { return false }
    keepsEverything = true
    code.align(to: 16)
    entry = code.position
    current = tailStart
    while current < count, !ended {
      storeX87Pointers()
      let beginning = Beginning(self)
      guard emitCurrent() else {
        takeBack(to: beginning)
        guard current > tailStart else { return false }
        leave()
        ended = true
        break
      }
      current += 1
    }
    storeX87Pointers()
    if !ended { follow(current) }
    emitSites(ofBranches: true)
    hotEnd = code.position
    code.position = translator.coldUsed
    emitSites(ofBranches: false)
    code.align(to: 16)
    return true
  }

  /// Emits the current instruction. False if it has no translation.
  private mutating func emitCurrent() -> Bool {
    guard current < decodedCount, op.semantic >= PseudoInstructions.native, keepFlagsMakeable(), emitInstruction()
    else { return false }
    moveGroups()
    return true
  }

  private mutating func decodeAll(_ count: Int) -> Bool {
    guard count <= Translator.longestBlock else { return false }
    while decodedCount < count, decode(decodedCount) { decodedCount += 1 }
    return true
  }

  /// The same without the choice of registers. False, too, if something is lent or lost and an instruction has no
  /// translation.
  private mutating func emitInstructions(_ count: Int) -> Bool {
    emitEntry(count)
    takeLoans()
    repetition = code.position

    var runStart: Int? = 0
    var runIsResumed = false
    var runBeginning = Beginning(self)
    var translatedCount = 0
    while current < count, !ended {
      if runStart == nil {
        runBeginning = Beginning(self)
        flagsAreInHost = false
        flagsAreInFrame = true
        flagRecipe = nil
        vectorsAreReady = false
        x87IsReady = false
        readGroups = [:]
        writeGroups = [:]
      }
      storeX87Pointers()
      let beginning = Beginning(self)
      mark(.instruction(current))
      if emitCurrent() {
        if runStart == nil {
          runStart = current
          runIsResumed = true
          resumptions.append((current, beginning.position))
        }
        translatedCount += 1
      } else {
        guard loans.isEmpty, !flagsAreLost else { return false }
        let failed = current
        takeBack(to: beginning)
        if let start = runStart {
          if runIsResumed, failed - start < shortestRun {
            // Too short to be worth an entry.
            translatedCount -= failed - start
            takeBack(to: runBeginning)
            for index in start..<failed { mark(.interpreted(index)) }
          } else {
            if start == 0, !runIsResumed { isWorthEntering = failed >= shortestRun }
            leave()
          }
        }
        mark(.interpreted(failed))
        runStart = nil
      }
      current += 1
    }
    if runStart == 0, !runIsResumed { isWorthEntering = true }
    storeX87Pointers()
    if !ended, runStart != nil { follow(current) }
    guard translatedCount > 0 else { return false }
    emitColdSites()
    return true
  }

  /// How far the translation has got when an instruction begins, so that what comes of it can be taken back.
  private struct Beginning {
    let position: Int
    let coldCount: Int
    let resumptionCount: Int
    let markCount: Int
    let flagsAreInHost: Bool
    let flagsAreInFrame: Bool
    let flagRecipe: FlagRecipe?
    let vectorsAreReady: Bool
    let x87IsReady: Bool

    init(_ translation: BlockTranslation) {
      position = translation.code.position
      coldCount = translation.cold.count
      resumptionCount = translation.resumptions.count
      markCount = translation.marks.count
      flagsAreInHost = translation.flagsAreInHost
      flagsAreInFrame = translation.flagsAreInFrame
      flagRecipe = translation.flagRecipe
      vectorsAreReady = translation.vectorsAreReady
      x87IsReady = translation.x87IsReady
    }
  }

  /// Takes back all that was emitted since a beginning. What is known of slots does not come back: the chain runs the
  /// instruction that failed, and may refill any of them.
  private mutating func takeBack(to beginning: Beginning) {
    code.position = beginning.position
    cold.removeLast(cold.count - beginning.coldCount)
    resumptions.removeLast(resumptions.count - beginning.resumptionCount)
    marks.removeLast(marks.count - beginning.markCount)
    flagsAreInHost = beginning.flagsAreInHost
    flagsAreInFrame = beginning.flagsAreInFrame
    flagRecipe = beginning.flagRecipe
    vectorsAreReady = beginning.vectorsAreReady
    x87IsReady = beginning.x87IsReady
    x87Pointers = nil
    readGroups = [:]
    writeGroups = [:]
    ended = false
  }

  /// Whether the chain gains by entering at the block's beginning.
  private(set) var isWorthEntering = false

  private func decode(_ index: Int) -> Bool {
    let op = operations[index]
    let failure = processor.decoder.decode(bytes + Int(op.offset), count: Int(op.length), mode: mode)
    guard failure == nil, processor.decoder.instruction.pointee.length == op.length else {
      // What stands for code that is no instruction.
      return false
    }
    decoded(index).pointee = processor.decoder.instruction.pointee
    decodedOperands(index).update(from: processor.decoder.operands, count: Translator.operandCapacity)
    return true
  }

  private mutating func emitEntry(_ count: Int) {
    code.align(to: 16)
    entry = code.position
    code.instruction(
      .primary, 0x83, reg: 5, .register(GuestRegisters.budget), size: 8, immediate: Int64(count), immediateSize: 1)
    budgetFixup = code.jump(if: HostCondition.sign)
  }

  private var budgetFixup = 0
  /// Where the block goes on that jumps to its own beginning: its loans stay, and it has been charged.
  private(set) var repetition = 0
  /// Behind what runs often.
  private(set) var hotEnd = 0

  /// An entry for other translations where there is nothing to translate. Returns its position.
  mutating func emitOnlyEntry() -> Int {
    code = HostAssembler(translator.memory, at: translator.used)
    code.align(to: 16)
    let position = code.position
    emitWayToChain()
    code.align(to: 16)
    return position
  }

  /// Has the chain enter the block. See `BlockEntry`.
  private mutating func emitWayToChain() {
    code.loadConstant(GuestRegisters.second, UInt64(UInt(bitPattern: block)))
    code.jump(to: translator.glue.enterBlock)
  }

  // MARK: Leaving

  /// Leaves for the chain at the current instruction.
  mutating func leave() {
    saveFlags()
    leave(at: code.jump())
  }

  /// Leaves for the chain at the current instruction, of which nothing has happened, if the condition holds.
  mutating func leave(if condition: UInt8) { leave(at: code.jump(if: condition)) }

  /// The same by a jump that there is.
  mutating func leave(at fixup: HostAssembler.Fixup) { cold.append(.leave(fixup, flagSource, operation: current)) }

  /// Goes where the direct branch `operation`, or the link at the block's end, leads to.
  mutating func follow(_ operation: Int) {
    if repeatsBlock(operation) { return emitRepetition(operation, flags: flagSourceOfRepetition) }
    saveFlags()
    returnLoans()
    emitExit(operation)
  }

  /// The same once flags and registers are where they belong.
  mutating func emitExit(_ operation: Int) {
    if isLinkable(operation) {
      emitLink(operation)
    } else if isCrossing(operation) {
      emitCrossing(operation)
    } else {
      cold.append(.leaveToLink(code.jump(), operation: operation, link: nil))
    }
  }

  /// Whether the direct branch leads to a place on the same page.
  func isLinkable(_ operation: Int) -> Bool {
    operations[operation].flags & OperationFlags.linkable.rawValue != 0 && !leadsToCutInstruction(operation)
  }

  /// Whether the instruction there reaches into the next page: it depends on what that is mapped to.
  private func leadsToCutInstruction(_ operation: Int) -> Bool {
    let place = Int(block.pointee.physicalAddress & 0xfff) &+ Int(truncatingIfNeeded: operations[operation].immediate)
    guard place > 4096 - 15, place < 4096 else { return false }
    return processor.decoder.decode(page + place, count: 4096 - place, mode: mode) == .truncated
  }

  /// Whether it leads to another page, not too far away.
  private func isCrossing(_ operation: Int) -> Bool {
    !isLinkable(operation) && (!isFlat || Int32(exactly: target(of: operation)) != nil)
  }

  /// A `CrossExit`, through which the direct branch `operation` is taken. The flags are in the frame. Code with segments
  /// looks the block cache up each time.
  private mutating func emitCrossing(_ operation: Int) {
    guard isFlat else {
      cold.append(.crossing(code.jump(), operation: operation, link: nil))
      return
    }
    let place = code.position
    cold.append(.crossing(code.jump(), operation: operation, link: place))
    while code.position < place + CrossExit.size { code.byte(0xcc) }
  }

  /// An `ExitLink`, through which the direct branch `operation` is taken. The flags are in the frame.
  mutating func emitLink(_ operation: Int) {
    let place = code.position
    cold.append(.leaveToLink(code.jump(), operation: operation, link: place))
    while code.position < place + ExitLink.size { code.byte(0xcc) }
  }

  /// The jump at `fixup` is the branch `operation`, taken. The flags are where they are now.
  mutating func emitFollow(_ fixup: HostAssembler.Fixup, _ operation: Int) {
    if isCrossing(operation) {
      cold.append(.cross(fixup, flagSource, operation: operation))
    } else if repeatsBlock(operation) {
      cold.append(.repetition(fixup, flagSourceOfRepetition, operation: operation))
    } else {
      cold.append(.follow(fixup, flagSource, operation: operation))
    }
  }

  /// A direct branch's target: in flat code from the beginning of this block's page, in other code its RIP.
  func target(of operation: Int) -> Int64 {
    let target = Int64(bitPattern: operations[operation].immediate) &+ place
    return isFlat ? target : target & Int64(bitPattern: targetMask(of: operation))
  }

  /// What a direct branch's target is cut to.
  func targetMask(of operation: Int) -> UInt64 {
    // The link at a block's end has no size.
    operations[operation].size == 2 ? 0xffff : is64 ? ~0 : 0xffff_ffff
  }

  /// Has a place as an address in a register.
  mutating func loadAddress(ofPlace place: Int64, into register: Int) {
    guard isFlat else { return loadConstant(register, place) }
    code.load(register, .frame(FrameOffset.codePage))
    code.loadAddress(
      register, .memory(base: register, index: nil, scale: 0, displacement: Int32(truncatingIfNeeded: place)),
      size: is64 ? 8 : 4)
  }

  /// MOV register, imm32, zero-extended.
  private mutating func loadConstant(_ register: Int, _ value: Int64) {
    if register & 8 != 0 { code.byte(0x41) }
    code.byte(0xb8 | UInt8(register & 7))
    code.word32(Int32(truncatingIfNeeded: value))
  }

  /// Calls a routine that does not come back, or leaves at the current instruction. The flags are in the frame.
  mutating func callLeaving(_ routine: Int) {
    code.call(to: routine)
    code.jump(to: entry)
    record(operations + current, ownHandler(current))
  }

  // MARK: Cold code

  private mutating func emitColdSites() {
    mark(.cold)
    emitSites(ofBranches: true)
    hotEnd = code.position
    code.position = translator.coldUsed
    mark(.cold)
    let count = Int(block.pointee.instructionCount)
    // See `Translator.unlink`.
    code.arithmeticWide(0, .register(GuestRegisters.budget), immediate: Int32(count))
    emitWayToChain()
    // The budget is used up.
    code.resolve(budgetFixup)
    code.arithmetic(0, .register(GuestRegisters.budget), immediate: Int32(count))
    code.byte(0x41)
    code.byte(0xbb)
    code.word32(Int32(count))
    code.call(to: translator.glue.budget)
    code.jump(to: entry)
    // Nothing is charged: see `emitCountOnLeaving`.
    record(block.pointee.operations, TranslationHandlers.stop)
    emitSites(ofBranches: false)
    for index in resumptions.indices {
      let position = resumptions[index].position
      // See `Translator.ownHandler`.
      code.word64(Translator.address(ownHandler(resumptions[index].operation)))
      resumptions[index].position = code.position
      emitThunk(to: position)
    }
    thunk = code.position
    emitThunk(to: entry + BlockEntry.checkSize)
    code.align(to: 16)
  }

  /// Emits branches that are taken, which stay near, or all else. Sites may add sites.
  private mutating func emitSites(ofBranches areBranches: Bool) {
    var index = 0
    while index < cold.count {
      if cold[index].isBranch == areBranches { emit(cold[index]) }
      index += 1
    }
  }

  private mutating func mark(_ what: CodeListing.Mark.Content) {
    if isListed { marks.append(CodeListing.Mark(position: code.position, content: what)) }
  }

  /// Where the chain enters the block.
  private(set) var thunk = 0

  private func ownHandler(_ operation: Int) -> OperationHandler {
    translator.ownHandler(operations[operation].handler)
  }

  private mutating func emitThunk(to position: Int) {
    let fixup = code.loadPlace(GuestRegisters.first)
    code.resolve(fixup, to: position)
    code.jump(to: isFlat ? translator.glue.enter[slotSet] : translator.glue.enterSegmented[slotSet])
  }

  private mutating func emit(_ site: ColdSite) {
    switch site {
    case .refill(let fixup, let flags, let request, let back, let operation):
      code.resolve(fixup)
      code.arithmetic(0, GuestRegisters.first, page(ofSlot: request.slot, isWrite: request.isWrite))
      if case .recipe = flags {
        code.move(GuestRegisters.second, GuestRegisters.first)
        emitSaving(of: flags)
        code.move(GuestRegisters.first, GuestRegisters.second)
      }
      // It may leave.
      returnLoans()
      let lacksRoom = emitRoomCheck(request)
      code.loadAddress(GuestRegisters.second, .frame(FrameOffset.slot(slotSet, request.slot)))
      let glue = translator.glue
      let routines = request.isPromised ? glue.refillPromised : request.isWrite ? glue.refillWrite : glue.refillRead
      code.call(to: routines[slotSet])
      let jump = jumpBack(to: back)
      record(operations + operation, ownHandler(operation))
      finishJumpBack(jump, to: back)
      guard let lacksRoom else { return }
      code.resolve(lacksRoom)
      guard request.isGroup else { return leaveHere(operations + operation, ownHandler(operation)) }
      leaveHere(operations + operation, TranslationHandlers.refuseGroup, link: code.position)
      code.word64(Translator.address(ownHandler(operation)))
    case .loadVectors(let fixup, let flags, let back, let operation):
      code.resolve(fixup)
      settle(flags)
      code.call(to: translator.glue.loadVectors)
      let jump = jumpBack(to: back)
      record(operations + operation, ownHandler(operation))
      finishJumpBack(jump, to: back)
    case .leave(let fixup, let flags, let operation):
      code.resolve(fixup)
      settle(flags)
      leaveHere(operations + operation, ownHandler(operation))
    case .follow(let fixup, let flags, let operation):
      code.resolve(fixup)
      settle(flags)
      if isLinkable(operation) {
        emitLink(operation)
      } else {
        leaveHere(operations + operation, TranslationHandlers.follow)
      }
    case .repetition(let fixup, let flags, let operation):
      code.resolve(fixup)
      emitRepetition(operation, flags: flags)
    case .leaveToLink(let fixup, let operation, let link):
      code.resolve(fixup)
      leaveHere(operations + operation, TranslationHandlers.follow, link: link)
    case .cross(let fixup, let flags, let operation):
      code.resolve(fixup)
      settle(flags)
      emitCrossing(operation)
    case .crossing(let fixup, let operation, let link):
      let otherwise = code.position
      loadAddress(ofPlace: target(of: operation), into: GuestRegisters.second)
      var leaves = lookUp()
      if link != nil {
        code.arithmetic(5, .frame(FrameOffset.lookUpsLeft), immediate: 1)
        leaves.append(code.jump(if: HostCondition.sign))
      }
      let refund = Int32(operations[operation].detail)
      if refund != 0 { code.arithmetic(0, .register(GuestRegisters.budget), immediate: refund) }
      enterFound()
      for leave in leaves { code.resolve(leave) }
      guard let link else {
        code.resolve(fixup, to: otherwise)
        return leaveHere(operations + operation, TranslationHandlers.follow)
      }
      code.resolve(fixup)
      leaveHere(operations + operation, TranslationHandlers.followAcross, link: link)
      // A `CrossLink`, and room behind it.
      code.word64(0)
      code.word64(UInt64(otherwise))
      code.word64(0)
      code.position += CrossExit.confirmationSize
    }
  }

  /// Returns a jump that is taken unless there is room in its page for what is at the address in RAX. Destroys R11.
  private mutating func emitRoomCheck(_ request: RefillRequest) -> HostAssembler.Fixup? {
    guard request.size > 1 else { return nil }
    guard !request.isAligned else {
      // TEST AL, size - 1.
      code.bytes(0xa8, UInt8(request.size - 1))
      return code.jump(if: HostCondition.notZero)
    }
    let second = GuestRegisters.second
    code.load(second, .register(GuestRegisters.first), size: 4)
    code.arithmetic(4, .register(second), immediate: 0xfff, size: 4)
    code.arithmetic(7, .register(second), immediate: Int32(request.limit), size: 4)
    return code.jump(if: HostCondition.above)
  }

  /// Has flags and registers where they belong outside the block. Destroys RAX.
  mutating func settle(_ flags: FlagSource) {
    emitSaving(of: flags)
    returnLoans()
  }

  /// Five bytes between a call that may leave and its exit record: a jump back into the block, by way of what
  /// `finishJumpBack` emits behind the record if something is lent.
  private mutating func jumpBack(to position: Int) -> HostAssembler.Fixup? {
    guard loans.isEmpty else { return code.jump() }
    code.jump(to: position)
    return nil
  }

  private mutating func finishJumpBack(_ fixup: HostAssembler.Fixup?, to position: Int) {
    guard let fixup else { return }
    code.resolve(fixup)
    takeLoans()
    code.jump(to: position)
  }

  private mutating func leaveHere(
    _ operation: UnsafePointer<Operation>, _ handler: OperationHandler, link: Int? = nil
  ) {
    let fixup = code.loadPlace(GuestRegisters.first)
    code.jump(to: translator.glue.leave)
    code.align(to: 8)
    code.resolve(fixup)
    record(operation, handler, link: link)
  }

  /// An `ExitRecord`.
  private mutating func record(
    _ operation: UnsafePointer<Operation>, _ handler: OperationHandler, link: Int? = nil
  ) {
    mark(.record(Int(operation.pointee.number)))
    code.word64(UInt64(UInt(bitPattern: operation)))
    code.word64(Translator.address(handler))
    code.word64(UInt64(UInt(bitPattern: block)))
    code.word64(block.pointee.place)
    code.word64(link.map { UInt64($0) } ?? ~0)
    mark(.cold)
  }
}
