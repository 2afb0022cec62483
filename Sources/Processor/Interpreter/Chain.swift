import CHost
import X86

/// How handlers follow one another.
///
/// A handler does its instruction and ends in a call of the next one's handler, which the optimiser turns into a jump;
/// the six arguments stay in the six argument registers of the C calling convention. So a block runs without a loop, and
/// a chain goes on from block to block until something has to be done outside: then `stop` stores the lazy flags and
/// returns, to `Interpreter.run`.
///
/// A handler does the common case only. Where an access misses the TLB, or anything else is out of the ordinary, it goes
/// over to `semantic` before it has changed anything: the instruction's semantic function then does the whole of it.
///
/// Handlers hold nothing but trivial values, throw nothing, pass no address of a local and take six arguments, no more:
/// each of these would cost a prologue or, worse, the tail call. `Scripts/check-tail-calls` looks at the machine code.
enum Chain {
  // MARK: Going on

  @inline(__always)
  static func next(_ cpu: CPU, _ op: Op, _ a: UInt64, _ b: UInt64, _ result: UInt64, _ kind: UInt64) {
    let next = op + 1
    return next.pointee.handler(cpu, next, a, b, result, kind)
  }

  /// Goes on at the block that starts at `cpu.rip`, which is set.
  @inline(__always)
  static func enter(
    _ cpu: CPU, _ block: UnsafeMutablePointer<CodeBlock>, _ a: UInt64, _ b: UInt64, _ result: UInt64, _ kind: UInt64
  ) {
    let budget = cpu.pointee.engine.budget &- Int64(block.pointee.instructionCount)
    guard budget >= 0, attentionLoad(cpu.pointee.engine.attention.unsafelyUnwrapped) == 0 else {
      return stopBetweenBlocks(cpu, block.pointee.operations, a, b, result, kind)
    }
    cpu.pointee.engine.budget = budget
    cpu.pointee.engine.block = block
    let first = UnsafePointer(block.pointee.operations)
    return first.pointee.handler(cpu, first, a, b, result, kind)
  }

  /// Goes on at RIP `target` in the same code mode.
  @inline(__always)
  static func branch(
    _ cpu: CPU, _ op: Op, _ target: UInt64, _ a: UInt64, _ b: UInt64, _ result: UInt64, _ kind: UInt64
  ) {
    cpu.pointee.rip = target
    let entry = cpu.pointee.engine.blockCache.unsafelyUnwrapped + blockIndex(target)
    if entry.pointee.tag == target, let block = entry.pointee.block,
      block.pointee.key == cpu.pointee.engine.blockKey
    {
      return enter(cpu, block, a, b, result, kind)
    }
    return branchSlowly(cpu, op, a, b, result, kind)
  }

  /// Takes the direct branch `op`: to the linked block, which is on the same page, or by the block cache.
  @inline(__always)
  static func take(_ cpu: CPU, _ op: Op, _ a: UInt64, _ b: UInt64, _ result: UInt64, _ kind: UInt64) {
    cpu.pointee.engine.budget &+= Int64(op.pointee.detail)
    let target = (cpu.pointee.rip &+ op.pointee.immediate) & op.pointee.addressMask
    if let link = op.pointee.link {
      let block = link.assumingMemoryBound(to: CodeBlock.self)
      if block.pointee.isDead == 0 {
        cpu.pointee.rip = target
        return enter(cpu, block, a, b, result, kind)
      }
    }
    if op.pointee.flags & OperationFlags.linkable.rawValue != 0 {
      cpu.pointee.rip = target
      return link(cpu, op, a, b, result, kind)
    }
    return branch(cpu, op, target, a, b, result, kind)
  }

  /// Finds the block of a direct branch within the page, at `cpu.rip`, and remembers it.
  @inline(never)
  private static func link(
    _ cpu: CPU, _ op: Op, _ a: UInt64, _ b: UInt64, _ result: UInt64, _ kind: UInt64
  ) {
    // Where the budget ends, so does looking ahead: the next block may fault.
    guard cpu.pointee.engine.budget > 0, let block = findAndLink(cpu, op) else {
      return stopBetweenBlocks(cpu, op, a, b, result, kind)
    }
    return enter(cpu, block, a, b, result, kind)
  }

  // What holds references is kept apart from what ends in a tail call: releasing comes last.

  @inline(never)
  private static func findAndLink(_ cpu: CPU, _ op: Op) -> UnsafeMutablePointer<CodeBlock>? {
    let processor = processor(cpu)
    let generation = processor.blocks.generation
    guard let block = processor.currentBlock() else { return nil }
    // The block that holds `op` is gone if the store was emptied meanwhile.
    // One that reaches into the next page is found anew each time: that page may be mapped elsewhere by then.
    if processor.blocks.generation == generation, block.pointee.secondPage == ~0 {
      UnsafeMutablePointer(mutating: op).pointee.link = UnsafeMutableRawPointer(block)
    }
    return block
  }

  @inline(never)
  private static func find(_ cpu: CPU) -> UnsafeMutablePointer<CodeBlock>? { processor(cpu).currentBlock() }

  /// Where a RIP's block is looked for in the block cache.
  @inline(__always)
  static func blockIndex(_ rip: UInt64) -> Int {
    Int(truncatingIfNeeded: (rip ^ (rip &>> 12)) & UInt64(TranslationCache.blockEntryCount - 1))
  }

  @inline(never)
  private static func branchSlowly(
    _ cpu: CPU, _ op: Op, _ a: UInt64, _ b: UInt64, _ result: UInt64, _ kind: UInt64
  ) {
    guard cpu.pointee.engine.budget > 0, let block = find(cpu) else {
      return stopBetweenBlocks(cpu, op, a, b, result, kind)
    }
    return enter(cpu, block, a, b, result, kind)
  }

  /// The handler of every operation of a block that was dropped: what memory holds now is decoded anew.
  static let stale: OperationHandler = { cpu, op, a, b, result, kind in
    refund(cpu, op.pointee.number)
    // Behind the block's last instruction may be the start of memory.
    let isWide = cpu.pointee.engine.blockKey & CodeMode.code64.rawValue != 0
    cpu.pointee.rip = (cpu.pointee.rip &+ UInt64(op.pointee.offset)) & (isWide ? ~0 : 0xffff_ffff)
    return branchSlowly(cpu, op, a, b, result, kind)
  }

  // MARK: Semantic functions

  /// Runs `op` by its semantic function.
  static let semanticHandler: OperationHandler = { cpu, op, a, b, result, kind in
    return semantic(cpu, op, a, b, result, kind)
  }

  @inline(never)
  static func semantic(_ cpu: CPU, _ op: Op, _ a: UInt64, _ b: UInt64, _ result: UInt64, _ kind: UInt64) {
    cpu.pointee.rflags =
      cpu.pointee.rflags & ~RFLAGS.arithmetic | LazyFlags.materialize(a, b, result, kind)
    let outcome = runFunction(cpu, op)
    let flags = cpu.pointee.rflags
    if outcome == Outcome.next { return next(cpu, op, 0, 0, flags, LazyFlags.materialized) }
    if outcome == Outcome.stopAfter { return stopAfter(cpu, op, 0, 0, flags, LazyFlags.materialized) }
    if outcome == Outcome.fault { return stopAtFault(cpu, op, 0, 0, flags, LazyFlags.materialized) }
    if outcome == Outcome.delivered {
      return branch(cpu, op, cpu.pointee.rip, 0, 0, flags, LazyFlags.materialized)
    }
    if outcome == Outcome.stopAtHandler { return stopBetweenBlocks(cpu, op, 0, 0, flags, LazyFlags.materialized) }
    refund(cpu, op.pointee.number &+ 1)
    if outcome == Outcome.branch {
      return branch(cpu, op, cpu.pointee.rip, 0, 0, flags, LazyFlags.materialized)
    }
    return stopBetweenBlocks(cpu, op, 0, 0, flags, LazyFlags.materialized)
  }

  private enum Outcome {
    static let next = 0
    static let branch = 1
    static let stopAfter = 2
    static let stop = 3
    static let fault = 4
    /// It faulted, and its handler comes next.
    static let delivered = 5
    /// The same, but something has to be done outside first.
    static let stopAtHandler = 6
  }

  /// Kept apart from `semantic`, as below, because it holds references.
  @inline(never)
  private static func runFunction(_ cpu: CPU, _ op: Op) -> Int {
    let reference = Unmanaged<SoftwareProcessor>.fromOpaque(cpu.pointee.engine.context.unsafelyUnwrapped)
    return reference._withUnsafeGuaranteedRef { runFunction($0, cpu, op) }
  }

  @inline(__always)
  private static func runFunction(_ processor: SoftwareProcessor, _ cpu: CPU, _ op: Op) -> Int {
    do throws(GuestFault) {
      let flow = try InstructionTable.function(op.pointee.semantic)(processor, op)
      processor.replay.clear()
      let hasStopped = cpu.pointee.engine.stopReason != 0
      switch flow {
      case .next: return hasStopped ? Outcome.stopAfter : Outcome.next
      case .branch: return hasStopped ? Outcome.stop : Outcome.branch
      case .serialize:
        cpu.pointee.engine.stopReason |= StopReason.serialize
        return Outcome.stopAfter
      case .branchAndSerialize:
        cpu.pointee.engine.stopReason |= StopReason.serialize
        return Outcome.stop
      }
    } catch {
      return note(error, processor, cpu, op)
    }
  }

  /// Delivers the fault of `op` if that needs nothing from outside, and records it otherwise. A fault is charged as an
  /// instruction is, and not counted as one.
  private static func note(_ fault: GuestFault, _ processor: SoftwareProcessor, _ cpu: CPU, _ op: Op) -> Int {
    let isStepping = cpu.pointee.engine.blockKey & CodeMode.stepping.rawValue != 0 || processor.events.isSingleStep
    guard !isStepping, cpu.pointee.engine.stopReason == 0, fault != .exit else { return record(fault, processor, cpu) }
    let (rip, budget) = (cpu.pointee.rip, cpu.pointee.engine.budget)
    cpu.pointee.rip = rip &+ UInt64(op.pointee.offset)
    refund(cpu, op.pointee.number)
    guard processor.deliver(fault) else {
      cpu.pointee.rip = rip
      cpu.pointee.engine.budget = budget
      return record(fault, processor, cpu)
    }
    cpu.pointee.engine.budget &-= 1
    cpu.pointee.instructionCount &-= 1
    let mayGoOn =
      cpu.pointee.engine.stopReason == 0 && !processor.hasWaitingEvents && cpu.pointee.pendingDebug == 0
    return mayGoOn ? Outcome.delivered : Outcome.stopAtHandler
  }

  private static func record(_ fault: GuestFault, _ processor: SoftwareProcessor, _ cpu: CPU) -> Int {
    processor.fault = fault
    cpu.pointee.engine.stopReason |= StopReason.fault
    return Outcome.fault
  }

  // MARK: Stopping

  /// Leaves the chain because `op` has not completed: the fault is recorded.
  @inline(never)
  static func stopAtFault(_ cpu: CPU, _ op: Op, _ a: UInt64, _ b: UInt64, _ result: UInt64, _ kind: UInt64) {
    refund(cpu, op.pointee.number)
    cpu.pointee.rip = cpu.pointee.rip &+ UInt64(op.pointee.offset)
    save(cpu, a, b, result, kind)
  }

  /// Leaves the chain after `op`, which completed and did not branch.
  @inline(never)
  static func stopAfter(_ cpu: CPU, _ op: Op, _ a: UInt64, _ b: UInt64, _ result: UInt64, _ kind: UInt64) {
    refund(cpu, op.pointee.number &+ 1)
    cpu.pointee.rip = processor(cpu).truncateToCode(
      cpu.pointee.rip &+ UInt64(op.pointee.offset) &+ UInt64(op.pointee.length))
    save(cpu, a, b, result, kind)
  }

  /// Leaves the chain where `cpu.rip` already is the next instruction.
  @inline(never)
  static func stopBetweenBlocks(
    _ cpu: CPU, _ op: Op, _ a: UInt64, _ b: UInt64, _ result: UInt64, _ kind: UInt64
  ) {
    save(cpu, a, b, result, kind)
  }

  /// The instructions of the running block from `number` on were charged and have not run.
  @inline(__always)
  static func refund(_ cpu: CPU, _ number: UInt8) { cpu.pointee.engine.budget &+= unspent(cpu, number) }

  /// How many they are.
  @inline(__always)
  static func unspent(_ cpu: CPU, _ number: UInt8) -> Int64 {
    guard let block = cpu.pointee.engine.block else { return 0 }
    return Int64(block.pointee.instructionCount) &- Int64(number)
  }

  @inline(__always)
  private static func save(_ cpu: CPU, _ a: UInt64, _ b: UInt64, _ result: UInt64, _ kind: UInt64) {
    cpu.pointee.engine.flagA = a
    cpu.pointee.engine.flagB = b
    cpu.pointee.engine.flagResult = result
    cpu.pointee.engine.flagKind = kind
  }

  @inline(__always)
  static func processor(_ cpu: CPU) -> SoftwareProcessor {
    Unmanaged<SoftwareProcessor>.fromOpaque(cpu.pointee.engine.context.unsafelyUnwrapped).takeUnretainedValue()
  }

  // MARK: Registers

  @inline(__always)
  static func register<T: BitwiseCopyable>(_ cpu: CPU, _ offset: UInt8, as type: T.Type = T.self) -> T {
    UnsafeRawPointer(cpu).loadUnaligned(fromByteOffset: Int(offset), as: T.self)
  }

  /// 32-bit writes clear the upper half.
  @inline(__always)
  static func setRegister<T: FixedWidthInteger & BitwiseCopyable>(_ cpu: CPU, _ offset: UInt8, _ value: T) {
    let base = UnsafeMutableRawPointer(cpu)
    if T.bitWidth == 32 {
      base.storeBytes(of: UInt64(UInt32(truncatingIfNeeded: value)), toByteOffset: Int(offset), as: UInt64.self)
    } else {
      base.storeBytes(of: value, toByteOffset: Int(offset), as: T.self)
    }
  }

  /// Sign-extends to the form of lazy flags.
  @inline(__always)
  static func extend<T: FixedWidthInteger & SignedInteger>(_ value: T) -> UInt64 {
    UInt64(truncatingIfNeeded: Int64(truncatingIfNeeded: value))
  }

  // MARK: Memory

  /// Offset of the memory operand within its segment.
  @inline(__always)
  static func offset(_ cpu: CPU, _ op: Op) -> UInt64 {
    (register(cpu, op.pointee.base, as: UInt64.self)
      &+ (register(cpu, op.pointee.index, as: UInt64.self) &<< UInt64(op.pointee.scale))
      &+ UInt64(truncatingIfNeeded: op.pointee.displacement)) & op.pointee.addressMask
  }

  /// Whether a branch target is canonical with 48 bits, which needs no look at the paging mode.
  @inline(__always)
  static func isUserOrKernelHalf(_ target: UInt64) -> Bool {
    UInt64(bitPattern: (Int64(bitPattern: target) &<< 16) &>> 16) == target
  }

  /// Linear address of the memory operand where segments are flat (FS and GS with their bases).
  @inline(__always)
  static func address(_ cpu: CPU, _ op: Op) -> UInt64 {
    offset(cpu, op) &+ register(cpu, op.pointee.segment, as: UInt64.self)
  }

  /// What the TLB knows of an address. `host` means something only where `isHit`.
  struct Lookup {
    let isHit: Bool
    let host: UnsafeMutableRawPointer
  }

  @inline(__always)
  private static func look(_ tag: UInt64, _ host: UInt64, _ address: UInt64, _ size: Int) -> Lookup {
    let offset = address &- tag
    return Lookup(
      isHit: offset <= UInt64(truncatingIfNeeded: 4096 &- size),
      host: UnsafeMutableRawPointer(bitPattern: UInt(truncatingIfNeeded: host &+ offset)).unsafelyUnwrapped)
  }

  /// A datum that may be read.
  @inline(__always)
  static func readable(_ cpu: CPU, _ address: UInt64, _ size: Int) -> Lookup {
    let entry = cpu.pointee.engine.tlb.unsafelyUnwrapped + TranslationCache.index(of: address)
    return look(entry.pointee.readTag, entry.pointee.host, address, size)
  }

  /// A datum that may be written without telling anybody.
  @inline(__always)
  static func writable(_ cpu: CPU, _ address: UInt64, _ size: Int) -> Lookup {
    let entry = cpu.pointee.engine.tlb.unsafelyUnwrapped + TranslationCache.index(of: address)
    return look(entry.pointee.writeTag, entry.pointee.host, address, size)
  }
}
