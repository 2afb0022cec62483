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

  /// Where the arithmetic flags are. One of the two holds at any instruction.
  var flagsAreInHost = false
  var flagsAreInFrame = true

  /// The guest's vector registers are known to be in the host's.
  var vectorsAreReady = false
  /// The block's bytes.
  let bytes: UnsafePointer<UInt8>

  /// Ranges off base registers that slots have been checked for, by slot.
  var readGroups: [Int: Group] = [:]
  var writeGroups: [Int: Group] = [:]
  /// How many of the block's instructions were decoded; the others have no translation.
  private(set) var decodedCount = 0

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

  enum ColdSite {
    /// An access missed its slot: refill it and try again.
    case refill(HostAssembler.Fixup, slot: Int, isWrite: Bool, limit: Int, retry: Int, operation: Int)
    /// Brings the vector registers in, or leaves.
    case loadVectors(HostAssembler.Fixup, back: Int, operation: Int)
    /// Leaves at an operation, which its own handler runs.
    case leave(HostAssembler.Fixup, operation: Int)
    /// Leaves at a direct branch that is taken; `refund` instructions of the block have not run. With `savesFlags` they
    /// are only in the host's.
    case follow(HostAssembler.Fixup, operation: Int, refund: Int, isLinkable: Bool, savesFlags: Bool)
    /// A taken branch to another page.
    case cross(HostAssembler.Fixup, operation: Int, refund: Int, savesFlags: Bool)
  }

  /// Nil for a block that is not in memory.
  init?(_ translator: Translator, _ processor: SoftwareProcessor, _ block: UnsafeMutablePointer<CodeBlock>) {
    let address = GuestPhysicalAddress(block.pointee.physicalAddress)
    guard let page = processor.memory.hostPage(of: address) else { return nil }
    bytes = UnsafePointer((page + Int(address.rawValue & 0xfff)).assumingMemoryBound(to: UInt8.self))
    self.translator = translator
    self.processor = processor
    self.block = block
    mode = CodeMode(rawValue: block.pointee.key)
    operations = block.pointee.operations + 1
    code = HostAssembler(translator.memory, at: translator.used)
    isListed = processor.isListed(block)
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

  // MARK: The whole block

  /// Emits everything. False if there is nothing to gain.
  mutating func emit() -> Bool {
    let count = Int(block.pointee.instructionCount)
    guard count <= Translator.longestBlock else { return false }
    while decodedCount < count, decode(decodedCount) { decodedCount += 1 }
    emitEntry(count)

    var runStart: Int? = 0
    var runIsResumed = false
    var snapshot = self
    var translatedCount = 0
    while current < count, !ended {
      if runStart == nil {
        snapshot = self
        flagsAreInHost = false
        flagsAreInFrame = true
        vectorsAreReady = false
        readGroups = [:]
        writeGroups = [:]
      }
      let before = self
      mark(.instruction(current))
      if current < decodedCount, op.semantic >= PseudoInstructions.native, emitInstruction() {
        moveGroups()
        if runStart == nil {
          runStart = current
          runIsResumed = true
          resumptions.append((current, before.code.position))
        }
        translatedCount += 1
      } else {
        let failed = current
        self = before
        if let start = runStart {
          if runIsResumed, failed - start < shortestRun {
            // Too short to be worth an entry.
            translatedCount -= failed - start
            self = snapshot
            for index in start..<failed { mark(.interpreted(index)) }
            current = failed
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
    if !ended, runStart != nil { follow(current) }
    guard translatedCount > 0 else { return false }
    emitColdSites()
    return true
  }

  /// Whether the chain gains by entering at the block's beginning.
  private(set) var isWorthEntering = false

  private func decode(_ index: Int) -> Bool {
    let op = operations[index]
    guard Int(block.pointee.physicalAddress & 0xfff) + Int(op.offset) + Int(op.length) <= 4096 else { return false }
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
    // What a dropped block's entry leads to.
    code.align(to: 16)
    code.byte(0x90)
    emitWayToChain()
    entry = code.position
    code.instruction(
      .primary, 0x83, reg: 5, .register(GuestRegisters.budget), size: 8, immediate: Int64(count), immediateSize: 1)
    budgetFixup = code.jump(if: HostCondition.sign)
  }

  private var budgetFixup = 0

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
    cold.append(.leave(code.jump(), operation: current))
  }

  /// Leaves for the chain at the current instruction, of which nothing has happened, if the condition holds.
  mutating func leave(if condition: UInt8) { leave(at: code.jump(if: condition)) }

  /// The same by a jump that there is.
  mutating func leave(at fixup: HostAssembler.Fixup) { cold.append(.leave(fixup, operation: current)) }

  /// Goes where the direct branch `operation`, or the link at the block's end, leads to.
  mutating func follow(_ operation: Int) {
    saveFlags()
    emitFollow(code.jump(), operation)
  }

  /// The jump at `fixup` is the branch `operation`, taken. The flags are where they are now.
  mutating func emitFollow(_ fixup: HostAssembler.Fixup, _ operation: Int) {
    let refund = Int(operations[operation].detail)
    let savesFlags = !flagsAreInFrame
    if operations[operation].flags & OperationFlags.linkable.rawValue != 0 {
      cold.append(
        .follow(fixup, operation: operation, refund: refund, isLinkable: true, savesFlags: savesFlags))
    } else if !isFlat || Int32(exactly: target(of: operation)) != nil {
      cold.append(.cross(fixup, operation: operation, refund: refund, savesFlags: savesFlags))
    } else {
      cold.append(
        .follow(fixup, operation: operation, refund: refund, isLinkable: false, savesFlags: savesFlags))
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

  // MARK: Cold code

  private mutating func emitColdSites() {
    mark(.cold)
    // The budget is used up.
    let count = Int(block.pointee.instructionCount)
    code.resolve(budgetFixup)
    code.arithmetic(0, .register(GuestRegisters.budget), immediate: Int32(count))
    code.byte(0x41)
    code.byte(0xbb)
    code.word32(Int32(count))
    code.call(to: translator.glue.budget)
    code.jump(to: entry)
    // Nothing is charged: see `emitCountOnLeaving`.
    record(block.pointee.operations, TranslationHandlers.stop)
    // Sites may add sites.
    var index = 0
    while index < cold.count {
      emit(cold[index])
      index += 1
    }
    for index in resumptions.indices {
      let position = resumptions[index].position
      resumptions[index].position = code.position
      emitThunk(to: position)
    }
    thunk = code.position
    emitThunk(to: entry + Self.entrySize)
    code.align(to: 16)
  }

  private mutating func mark(_ what: CodeListing.Mark.Content) {
    if isListed { marks.append(CodeListing.Mark(position: code.position, content: what)) }
  }

  /// Bytes of the budget's check.
  private static let entrySize = 10
  /// Where the chain enters the block.
  private(set) var thunk = 0

  private mutating func emitThunk(to position: Int) {
    let fixup = code.loadPlace(GuestRegisters.first)
    code.resolve(fixup, to: position)
    code.jump(to: isFlat ? translator.glue.enter[slotSet] : translator.glue.enterSegmented[slotSet])
  }

  private mutating func emit(_ site: ColdSite) {
    switch site {
    case .refill(let fixup, let slot, let isWrite, let limit, let retry, let operation):
      code.resolve(fixup)
      let place = FrameOffset.slot(slotSet, slot)
      code.arithmetic(
        0, GuestRegisters.first, .frame(place + (isWrite ? SlotOffset.writePage : SlotOffset.readPage)))
      code.byte(0x41)
      code.byte(0xbb)
      code.word32(Int32(limit))
      code.call(to: isWrite ? translator.glue.refillWrite[slotSet][slot] : translator.glue.refillRead[slotSet][slot])
      code.jump(to: retry)
      record(operations + operation, operations[operation].handler)
    case .loadVectors(let fixup, let back, let operation):
      code.resolve(fixup)
      code.call(to: translator.glue.loadVectors)
      code.jump(to: back)
      record(operations + operation, operations[operation].handler)
    case .leave(let fixup, let operation):
      code.resolve(fixup)
      leaveHere(operations + operation, operations[operation].handler)
    case .follow(let fixup, let operation, let refund, let isLinkable, let savesFlags):
      code.resolve(fixup)
      if savesFlags { emitSavingOfFlags() }
      let place = code.position
      if isLinkable {
        // See ExitLink.
        let away = code.jump()
        code.instruction(
          .primary, 0x81, reg: 0, .register(GuestRegisters.budget), size: 8, immediate: Int64(refund), immediateSize: 4)
        code.jump(to: code.position)
        code.resolve(away)
      }
      leaveHere(operations + operation, TranslationHandlers.follow, link: isLinkable ? place : nil)
    case .cross(let fixup, let operation, let refund, let savesFlags):
      code.resolve(fixup)
      if savesFlags { emitSavingOfFlags() }
      loadAddress(ofPlace: target(of: operation), into: GuestRegisters.second)
      let misses = lookUp()
      if refund != 0 {
        code.arithmetic(0, .register(GuestRegisters.budget), immediate: Int32(refund))
      }
      enterFound()
      for miss in misses {
        cold.append(
          .follow(miss, operation: operation, refund: refund, isLinkable: false, savesFlags: false))
      }
    }
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

  // MARK: Flags

  /// Has the flags in the frame, so that the host's can be destroyed.
  mutating func saveFlags() {
    guard !flagsAreInFrame else { return }
    emitSavingOfFlags()
    flagsAreInFrame = true
  }

  private mutating func emitSavingOfFlags() {
    // SETO AL; LAHF.
    code.bytes(0x0f, 0x90, 0xc0, 0x9f)
    code.store(GuestRegisters.first, .frame(FrameOffset.flags), size: 2)
  }

  /// Has the flags in the host's. Destroys RAX.
  mutating func restoreFlags() {
    guard !flagsAreInHost else { return }
    code.instruction(.escape0f, 0xb7, reg: GuestRegisters.first, .frame(FrameOffset.flags), size: 4)
    // ADD AL, 127; SAHF.
    code.bytes(0x04, 0x7f, 0x9e)
    flagsAreInHost = true
  }

  /// Host code that follows destroys the flags.
  mutating func destroyFlags() {
    saveFlags()
    flagsAreInHost = false
  }

  /// The instruction has written all arithmetic flags, or some while the others were in the host.
  mutating func noteFlagsWritten() {
    flagsAreInHost = true
    flagsAreInFrame = false
  }
}
