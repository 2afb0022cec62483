import CHost
import X86

/// Positions of the routines that all translations share.
struct Glue {
  /// From a thunk, as an `OperationHandler` with the target's address in RAX; by slot set, for flat code and for other.
  var enter: [Int] = []
  var enterSegmented: [Int] = []
  /// Leaves for the chain at the `ExitRecord` whose address is in RAX.
  var leave = 0
  /// Where the return address leads to that is expected when nothing is.
  var nowhere = 0
  /// Called where CLAC takes rights away, by set of slots.
  var forgetFilled: [Int] = []
  /// Leaves for the chain at the beginning of the block in R11; the code page is set.
  var enterBlock = 0
  /// Called when a slice is used up; R11D is how many instructions the block wants. An exit record follows the five bytes
  /// behind the call.
  var budget = 0
  /// Called where the guest's vector registers are not in the host's. An exit record follows the five bytes behind the
  /// call, for when they cannot be.
  var loadVectors = 0
  /// Called with the CPU state in RAX.
  var bringVectors = 0
  var putVectors = 0
  /// Called with an address in RAX whose page a slot does not have, and the slot's place in R11. Comes back with the address
  /// in R11 and its distance to the host's page in RAX. An exit record follows the five bytes behind the call. Indexed by set.
  var refillRead: [Int] = []
  var refillWrite: [Int] = []
  var refillPromised: [Int] = []
  /// See `emitInterruptReturn`.
  var interruptReturn32 = 0
  var interruptReturn64 = 0
}

/// What is checked by a slot, and asked for where the slot does not have it.
struct RefillRequest {
  var slot: Int
  var isWrite: Bool
  /// Bytes, and whether they are those of several accesses.
  var size: Int
  var isGroup = false
  /// It is a read that is checked for a write which is to come. A fault may keep that from coming, so it leaves no mark in the
  /// page tables, and leaves for the chain unless it needs none.
  var isPromised = false
  /// The address must be a multiple of the size.
  var isAligned = false

  /// The last offset in a page that leaves room.
  var limit: Int { 4096 - size }
}

extension HostAssembler {
  /// Forgets all return addresses but the last, see `Translator.emitExpectation`. Destroys the flags.
  mutating func forgetExpectations() {
    load(HostRegister.rsp, .frame(FrameOffset.hostStack))
    arithmetic(5, .register(HostRegister.rsp), immediate: 24)
  }

  /// Has the block at the RIP in a register in another: see `Chain.blockIndex`. Returns the jumps that are taken if the block
  /// cache has none. Its mode is for the caller to look at.
  mutating func findBlock(_ block: Int, at rip: Int) -> [Fixup] {
    func entry(_ offset: Int) -> HostOperand {
      .memory(base: block, index: nil, scale: 0, displacement: Int32(offset))
    }
    move(block, rip)
    instruction(.primary, 0xc1, reg: 5, .register(block), size: 8, immediate: 12, immediateSize: 1)
    arithmetic(6, block, .register(rip), size: 4)
    arithmetic(4, .register(block), immediate: Int32(TranslationCache.blockEntryCount - 1), size: 4)
    instruction(.primary, 0xc1, reg: 4, .register(block), size: 4, immediate: 4, immediateSize: 1)
    arithmetic(0, block, .frame(FrameOffset.blockCache))
    arithmetic(7, rip, entry(BlockCacheOffset.tag))
    let isOther = jump(if: HostCondition.notZero)
    load(block, entry(BlockCacheOffset.block))
    instruction(.primary, 0x85, reg: block, .register(block), size: 8)
    return [isOther, jump(if: HostCondition.zero)]
  }

  /// A field of the CPU state, whose address is in RAX.
  private func state(_ offset: Int) -> HostOperand {
    .memory(base: HostRegister.rax, index: nil, scale: 0, displacement: Int32(offset))
  }

  /// Clears ZF if something waits for interrupts to be let in. The state's address is in RAX; destroys the register.
  mutating func testWaitingEvents(_ register: Int) {
    instruction(.escape0f, 0xb6, reg: register, state(StateOffset.interruptPending), size: 4)
    for place in [StateOffset.nmiPending, StateOffset.wantsInterruptWindow] {
      instruction(.primary, 0x0a, reg: register, state(place), size: 1, hasByteRegister: true)
    }
    instruction(.primary, 0x84, reg: register, .register(register), size: 1, hasByteRegister: true)
  }

  /// Returns the jumps that are taken unless the slots of a set are good for the table that lies `distance` entries from the
  /// current one. The state's address is in RAX; destroys the register.
  mutating func checkSlots(_ set: Int, distance: Int, using register: Int) -> [Fixup] {
    load(register, state(StateOffset.translationEpoch))
    arithmetic(7, register, .frame(FrameOffset.set(set, SlotSetOffset.epoch)))
    let isOtherEpoch = jump(if: HostCondition.notZero)
    load(register, state(StateOffset.tlb))
    arithmetic(0, .register(register), immediate: Int32(distance * MemoryLayout<TLBEntry>.stride))
    arithmetic(7, register, .frame(FrameOffset.set(set, SlotSetOffset.tlb)))
    return [isOtherEpoch, jump(if: HostCondition.notZero)]
  }

  /// Makes a register RFLAGS: those of the state and those in the frame. Has the state's address in RAX afterwards.
  mutating func setFlags(from register: Int) {
    let rax = HostRegister.rax
    arithmetic(1, .register(register), immediate: Int32(RFLAGS.fixed), size: 4)
    load(rax, .frame(FrameOffset.cpu))
    store(register, state(StateOffset.rflags))
    // Bits 7:0 to 15:8, bit 11 to bit 0.
    load(rax, .register(register), size: 4)
    instruction(.primary, 0xc1, reg: 4, .register(rax), size: 4, immediate: 8, immediateSize: 1)
    instruction(.primary, 0xc1, reg: 5, .register(register), size: 4, immediate: 11, immediateSize: 1)
    arithmetic(4, .register(register), immediate: 1, size: 4)
    arithmetic(1, rax, .register(register), size: 4)
    store(rax, .frame(FrameOffset.flags), size: 2)
    load(rax, .frame(FrameOffset.cpu))
  }
}

extension Translator {
  /// Bytes of the host's stack that return addresses may take when a slice ends; in the next one there may be 64 KiB more.
  private static let deepestStack: Int32 = 64 << 10

  func emitGlue() {
    var code = HostAssembler(memory, at: 0)
    emitVectorMoves(&code)
    glue.nowhere = code.position
    // UD2.
    code.bytes(0x0f, 0x0b)
    code.align(to: 16)
    emitLeave(&code)
    glue.forgetFilled = (0..<2).map { emitForgetFilled(&code, $0) }
    glue.enter = (0..<2).map { emitEnter(&code, $0, isFlat: true) }
    glue.enterSegmented = (0..<2).map { emitEnter(&code, $0, isFlat: false) }
    emitLoadVectors(&code)
    emitEnterBlock(&code)
    emitBudget(&code)
    for set in 0..<2 {
      glue.refillRead.append(emitRefill(&code, set, isWrite: false))
      glue.refillWrite.append(emitRefill(&code, set, isWrite: true))
      glue.refillPromised.append(emitRefill(&code, set, isWrite: true, isPromised: true))
    }
    glue.interruptReturn32 = emitInterruptReturn(&code, is64: false)
    glue.interruptReturn64 = emitInterruptReturn(&code, is64: true)
    code.align(to: 64)
    used = code.position
  }

  private static let savedRegisters = [
    HostRegister.rbx, HostRegister.rbp, HostRegister.r12, HostRegister.r13, HostRegister.r14, HostRegister.r15,
  ]

  private static func state(_ base: Int, _ offset: Int) -> HostOperand {
    .memory(base: base, index: nil, scale: 0, displacement: Int32(offset))
  }

  private func emitEnter(_ code: inout HostAssembler, _ set: Int, isFlat: Bool) -> Int {
    let rax = HostRegister.rax
    let rdi = HostRegister.rdi
    let r11 = HostRegister.r11
    let start = code.position
    // TEST R9, R9: lazy flags are made whole first.
    code.instruction(.primary, 0x85, reg: HostRegister.r9, .register(HostRegister.r9), size: 8)
    let isWhole = code.jump(if: HostCondition.zero)
    code.loadConstant(rax, Self.address(TranslationHandlers.makeFlagsWhole))
    code.jump(.register(rax))
    code.resolve(isWhole)
    for register in Self.savedRegisters { code.push(register) }
    code.store(HostRegister.rsp, .frame(FrameOffset.hostStack))
    code.arithmetic(5, .register(HostRegister.rsp), immediate: 8)
    code.store(rax, .frame(FrameOffset.target))
    emitExpectation(&code)
    emitCountOnEntry(&code)
    // Flags: bits 7:0 to 15:8, bit 11 to bit 0.
    code.load(r11, .register(HostRegister.r8), size: 4)
    code.instruction(.primary, 0xc1, reg: 5, .register(r11), size: 4, immediate: 11, immediateSize: 1)
    code.arithmetic(4, .register(r11), immediate: 1, size: 4)
    code.load(rax, .register(HostRegister.r8), size: 4)
    code.instruction(.primary, 0xc1, reg: 4, .register(rax), size: 4, immediate: 8, immediateSize: 1)
    code.arithmetic(1, rax, .register(r11), size: 4)
    code.store(rax, .frame(FrameOffset.flags), size: 2)
    if isFlat {
      code.load(rax, Self.state(rdi, StateOffset.rip))
      code.arithmetic(4, .register(rax), immediate: -4096)
    } else {
      code.arithmetic(6, rax, .register(rax), size: 4)
    }
    code.store(rax, .frame(FrameOffset.codePage))
    code.load(GuestRegisters.budget, Self.state(rdi, StateOffset.budget))
    emitSlice(&code)
    // Tables. Slots hold what one table had, before anything was taken away.
    code.load(rax, Self.state(rdi, StateOffset.blockCache))
    code.store(rax, .frame(FrameOffset.blockCache))
    let tlb = HostOperand.frame(FrameOffset.set(set, SlotSetOffset.tlb))
    code.load(rax, Self.state(rdi, StateOffset.translationEpoch))
    code.arithmetic(7, rax, .frame(FrameOffset.set(set, SlotSetOffset.epoch)))
    let isNewEpoch = code.jump(if: HostCondition.notZero)
    code.load(rax, Self.state(rdi, StateOffset.tlb))
    code.arithmetic(7, rax, tlb)
    let isNewTable = code.jump(if: HostCondition.notZero)
    let ready = code.position
    for (guest, host) in GuestRegisters.mapped where host != rdi { code.load(host, Self.state(rdi, guest * 8)) }
    for guest in GuestRegisters.homeless {
      code.load(rax, Self.state(rdi, guest * 8))
      code.store(rax, GuestRegisters.home(guest))
    }
    code.load(rdi, Self.state(rdi, 7 * 8))
    code.jump(.frame(FrameOffset.target))

    code.resolve(isNewTable)
    let count = HostOperand.frame(FrameOffset.set(set, SlotSetOffset.filledCount))
    if set == 0 {
      // STAC gives rights, so slots stay good; CLAC takes them, which matters to slots that were filled in between.
      let distance = Int32(TranslationCache.pageCount * MemoryLayout<TLBEntry>.stride)
      code.move(r11, rax)
      code.arithmetic(5, r11, tlb)
      code.arithmetic(7, .register(r11), immediate: distance)
      let isNarrower = code.jump(if: HostCondition.notZero)
      code.store(rax, tlb)
      Self.emitKeeping(&code, set)
      code.jump(to: ready)
      code.resolve(isNarrower)
      code.arithmetic(7, .register(r11), immediate: -distance)
      let isOther = code.jump(if: HostCondition.notZero)
      code.arithmetic(7, count, immediate: Int32(FilledSlotCapacity))
      let areTooMany = code.jump(if: HostCondition.above)
      code.store(rax, tlb)
      code.call(to: glue.forgetFilled[set])
      code.jump(to: ready)
      code.resolve(areTooMany)
      code.resolve(isOther)
    }
    emitSlotExchange(&code, set)
    code.jump(to: ready)

    code.resolve(isNewEpoch)
    code.store(rax, .frame(FrameOffset.set(set, SlotSetOffset.epoch)))
    code.load(rax, Self.state(rdi, StateOffset.tlb))
    code.store(rax, tlb)
    func put(_ field: Int, _ value: Int64) {
      code.instruction(
        .primary, 0xc7, reg: 0, .frame(FrameOffset.set(set, field)), size: 8, immediate: value, immediateSize: 4)
    }
    put(SlotSetOffset.keptCount, 0)
    code.arithmetic(7, .frame(FrameOffset.set(set, SlotSetOffset.isListed)), immediate: 0)
    let areUnknown = code.jump(if: HostCondition.zero)
    code.arithmetic(7, count, immediate: Int32(FilledSlotCapacity))
    let areMore = code.jump(if: HostCondition.above)
    code.call(to: glue.forgetFilled[set])
    code.jump(to: ready)
    code.resolve(areUnknown)
    code.resolve(areMore)
    emitEmptying(&code, set)
    put(SlotSetOffset.filledCount, 0)
    put(SlotSetOffset.isListed, 1)
    code.jump(to: ready)
    code.align(to: 16)
    return start
  }

  /// Has a return address on the host's stack that no guest returns to, so that RET always finds one: as no page is there,
  /// nobody can guess it. Destroys RAX.
  private func emitExpectation(_ code: inout HostAssembler) {
    code.load(HostRegister.rax, .frame(FrameOffset.emptySlot + SlotOffset.readPage))
    code.push(HostRegister.rax)
    let place = code.loadPlace(HostRegister.rax)
    code.resolve(place, to: glue.nowhere)
    code.push(HostRegister.rax)
  }

  /// Rights are widened (STAC): slots that are filled from now on will be emptied when they are not any more. Destroys R11.
  static func emitKeeping(_ code: inout HostAssembler, _ set: Int) {
    let r11 = HostRegister.r11
    let count = HostOperand.frame(FrameOffset.set(set, SlotSetOffset.filledCount))
    code.load(r11, count)
    code.arithmetic(7, .register(r11), immediate: Int32(FilledSlotCapacity))
    let isWhole = code.jump(if: HostCondition.belowOrEqual)
    // The list begins anew.
    code.arithmetic(6, r11, .register(r11), size: 4)
    code.store(r11, count)
    code.store(r11, .frame(FrameOffset.set(set, SlotSetOffset.isListed)))
    code.resolve(isWhole)
    code.store(r11, .frame(FrameOffset.set(set, SlotSetOffset.keptCount)))
  }

  /// Has Swift put the slots of a set aside for its table and bring those of the table that is in use now. The state is in
  /// RDI; the stack is aligned.
  private func emitSlotExchange(_ code: inout HostAssembler, _ set: Int) {
    let rdi = HostRegister.rdi
    for _ in 0..<2 { code.push(rdi) }
    code.loadConstant(HostRegister.rsi, UInt64(set))
    code.loadConstant(HostRegister.rax, Self.address(TranslationHandlers.exchangeSlots))
    code.instruction(.primary, 0xff, reg: 2, .register(HostRegister.rax), size: 4)
    for _ in 0..<2 { code.pop(rdi) }
  }

  /// Empties the slots of a set. No vector register is the guest's.
  private func emitEmptying(_ code: inout HostAssembler, _ set: Int) {
    // MOVUPS or VMOVUPS: half a slot, or all of it.
    let step = hasWideVectors ? 32 : 16
    func move(_ opcode: UInt8, _ place: Int) {
      if hasWideVectors {
        code.instruction(.escape0f, opcode, reg: 0, 0, .frame(place), isW: false, isL: true, prefix: 0)
      } else {
        code.instruction(.escape0f, opcode, reg: 0, .frame(place), size: 4)
      }
    }
    move(0x10, FrameOffset.emptySlot)
    let first = FrameOffset.slot(set, 0)
    for place in stride(from: first, to: FrameOffset.slot(set, Int(PageSlotCount)), by: step) { move(0x11, place) }
    if hasWideVectors { code.bytes(0xc5, 0xf8, 0x77) }
  }

  private func emitLeave(_ code: inout HostAssembler) {
    let rax = HostRegister.rax
    let rcx = HostRegister.rcx
    let rdi = HostRegister.rdi
    let r8 = HostRegister.r8
    let budget = GuestRegisters.budget
    glue.leave = code.position
    code.store(rax, .frame(FrameOffset.record))
    code.load(rax, .frame(FrameOffset.cpu))
    for (guest, host) in GuestRegisters.mapped { code.store(host, Self.state(rax, guest * 8)) }
    for guest in GuestRegisters.homeless {
      code.load(rcx, GuestRegisters.home(guest))
      code.store(rcx, Self.state(rax, guest * 8))
    }
    code.arithmetic(7, .frame(FrameOffset.vectorsAreLoaded), immediate: 0, size: 4)
    let hasVectors = code.jump(if: HostCondition.notZero)
    let isWithout = code.position
    code.move(rdi, rax)
    code.load(rax, .frame(FrameOffset.record))
    code.load(rcx, .frame(FrameOffset.codePage))
    code.arithmetic(0, rcx, Self.state(rax, RecordOffset.place))
    code.store(rcx, Self.state(rdi, StateOffset.rip))
    code.load(rcx, Self.state(rax, RecordOffset.block))
    code.store(rcx, Self.state(rdi, StateOffset.block))
    code.arithmetic(0, budget, .frame(FrameOffset.reserve))
    code.store(budget, Self.state(rdi, StateOffset.budget))
    code.load(HostRegister.rsi, Self.state(rax, RecordOffset.operation))
    emitCountOnLeaving(&code)
    // MOVZX R8D, byte [flags + 1]; AND R8D, 0xd5; MOVZX ECX, byte [flags]; SHL ECX, 11; OR R8D, ECX.
    code.instruction(.escape0f, 0xb6, reg: r8, .frame(FrameOffset.flags + 1), size: 4)
    code.arithmetic(4, .register(r8), immediate: 0xd5, size: 4)
    code.instruction(.escape0f, 0xb6, reg: rcx, .frame(FrameOffset.flags), size: 4)
    code.instruction(.primary, 0xc1, reg: 4, .register(rcx), size: 4, immediate: 11, immediateSize: 1)
    code.arithmetic(1, r8, .register(rcx), size: 4)
    for register in [rcx, HostRegister.rdx, HostRegister.r9] {
      code.arithmetic(6, register, .register(register), size: 4)
    }
    code.load(HostRegister.rsp, .frame(FrameOffset.hostStack))
    for register in Self.savedRegisters.reversed() { code.pop(register) }
    code.jump(Self.state(rax, RecordOffset.handler))
    code.resolve(hasVectors)
    code.load(HostRegister.rsp, .frame(FrameOffset.hostStack))
    code.call(to: glue.putVectors)
    setVectorsAreLoaded(&code, 0)
    code.jump(to: isWithout)
    code.align(to: 16)
  }

  /// Empties the slots of a set that are on its list, but for those that are kept. Destroys RAX and R11.
  private func emitForgetFilled(_ code: inout HostAssembler, _ set: Int) -> Int {
    let (rax, rcx, r11) = (HostRegister.rax, HostRegister.rcx, HostRegister.r11)
    let count = HostOperand.frame(FrameOffset.set(set, SlotSetOffset.filledCount))
    let start = code.position
    code.store(rcx, .frame(FrameOffset.scratch))
    let again = code.position
    code.load(r11, count)
    code.arithmetic(7, r11, .frame(FrameOffset.set(set, SlotSetOffset.keptCount)))
    let isDone = code.jump(if: HostCondition.belowOrEqual)
    code.arithmetic(5, .register(r11), immediate: 1)
    code.store(r11, count)
    code.loadAddress(rax, .frame(FrameOffset.set(set, SlotSetOffset.filled)))
    code.load(rax, .memory(base: rax, index: r11, scale: 3, displacement: 0))
    code.load(rcx, .frame(FrameOffset.emptySlot + SlotOffset.readPage))
    code.store(rcx, Self.state(rax, SlotOffset.readPage))
    code.store(rcx, Self.state(rax, SlotOffset.writePage))
    code.load(rcx, .frame(FrameOffset.emptySlot + SlotOffset.readAddend))
    code.store(rcx, Self.state(rax, SlotOffset.readAddend))
    code.store(rcx, Self.state(rax, SlotOffset.writeAddend))
    code.jump(to: again)
    code.resolve(isDone)
    code.load(rcx, .frame(FrameOffset.scratch))
    code.byte(0xc3)
    code.align(to: 16)
    return start
  }

  private func setVectorsAreLoaded(_ code: inout HostAssembler, _ value: Int64) {
    code.instruction(
      .primary, 0xc7, reg: 0, .frame(FrameOffset.vectorsAreLoaded), size: 4, immediate: value, immediateSize: 4)
  }

  private func emitVectorMoves(_ code: inout HostAssembler) {
    let rax = HostRegister.rax
    glue.putVectors = code.position
    for number in 0..<16 {
      // MOVUPS, VEXTRACTF128.
      code.instruction(.escape0f, 0x11, reg: number, Self.state(rax, StateOffset.xmm(number)), size: 4)
      guard hasWideVectors else { continue }
      code.instruction(
        .escape0f3a, 0x19, reg: number, 0, Self.state(rax, StateOffset.ymmHigh(number)), isW: false, isL: true,
        prefix: 1, immediate: 1, immediateSize: 1)
    }
    if hasWideVectors { code.bytes(0xc5, 0xf8, 0x77) }
    code.byte(0xc3)
    code.align(to: 16)
    glue.bringVectors = code.position
    if hasWideVectors {
      // SSE instructions cost the host dearly, all of them, while an upper half holds anything but zero. VMOVUPS, VORPS,
      // VPTEST.
      for number in stride(from: 0, to: 16, by: 2) {
        code.instruction(
          .escape0f, number == 0 ? 0x10 : 0x56, reg: 0, 0, Self.state(rax, StateOffset.ymmHigh(number)), isW: false,
          isL: true, prefix: 0)
      }
      code.instruction(.escape0f38, 0x17, reg: 0, 0, .register(0), isW: false, isL: true, prefix: 1)
      let areEmpty = code.jump(if: HostCondition.zero)
      for number in 0..<16 {
        // VMOVUPS, VINSERTF128.
        code.instruction(
          .escape0f, 0x10, reg: number, 0, Self.state(rax, StateOffset.xmm(number)), isW: false, isL: false, prefix: 0)
        code.instruction(
          .escape0f3a, 0x18, reg: number, number, Self.state(rax, StateOffset.ymmHigh(number)), isW: false, isL: true,
          prefix: 1, immediate: 1, immediateSize: 1)
      }
      code.byte(0xc3)
      code.resolve(areEmpty)
      code.bytes(0xc5, 0xf8, 0x77)
    }
    for number in 0..<16 {
      code.instruction(.escape0f, 0x10, reg: number, Self.state(rax, StateOffset.xmm(number)), size: 4)
    }
    code.byte(0xc3)
    code.align(to: 16)
  }

  private func emitLoadVectors(_ code: inout HostAssembler) {
    let rax = HostRegister.rax
    glue.loadVectors = code.position
    // STMXCSR: all exceptions have to be masked.
    code.instruction(.escape0f, 0xae, reg: 3, .frame(FrameOffset.scratch), size: 4)
    code.load(rax, .frame(FrameOffset.scratch), size: 4)
    code.arithmetic(4, .register(rax), immediate: 0x1f80, size: 4)
    code.arithmetic(7, .register(rax), immediate: 0x1f80, size: 4)
    let isUnmasked = code.jump(if: HostCondition.notZero)
    code.load(rax, .frame(FrameOffset.cpu))
    setVectorsAreLoaded(&code, 1)
    code.jump(to: glue.bringVectors)
    code.resolve(isUnmasked)
    emitLeaveBehindCall(&code)
  }

  private func emitEnterBlock(_ code: inout HostAssembler) {
    let rax = HostRegister.rax
    let r11 = HostRegister.r11
    // An exit record made on the spot, in the frame's scratch area.
    glue.enterBlock = code.position
    let record = FrameOffset.dynamicRecord
    code.load(rax, Self.state(r11, BlockOffset.operations))
    code.store(rax, .frame(record + RecordOffset.operation))
    code.loadConstant(rax, Self.address(TranslationHandlers.enterBlock))
    code.store(rax, .frame(record + RecordOffset.handler))
    code.store(r11, .frame(record + RecordOffset.block))
    code.load(rax, Self.state(r11, BlockOffset.place))
    code.store(rax, .frame(record + RecordOffset.place))
    code.loadAddress(rax, .frame(record))
    code.jump(to: glue.leave)
    code.align(to: 16)
  }

  /// Leaves a slice of the budget in its register and keeps the rest. Destroys RAX.
  private func emitSlice(_ code: inout HostAssembler) {
    let rax = HostRegister.rax
    let budget = GuestRegisters.budget
    code.instruction(.primary, 0xc7, reg: 0, .register(rax), size: 8, immediate: Int64(Self.slice), immediateSize: 4)
    code.arithmetic(7, budget, .register(rax))
    code.instruction(.escape0f, 0x40 | HostCondition.less, reg: rax, .register(budget), size: 8)
    code.arithmetic(5, budget, .register(rax))
    code.store(budget, .frame(FrameOffset.reserve))
    code.move(budget, rax)
  }

  private func emitBudget(_ code: inout HostAssembler) {
    let rax = HostRegister.rax
    let r11 = HostRegister.r11
    let budget = GuestRegisters.budget
    glue.budget = code.position
    code.load(rax, .frame(FrameOffset.attention))
    code.arithmetic(7, Self.state(rax, 0), immediate: 0, size: 4)
    let isWanted = code.jump(if: HostCondition.notZero)
    code.arithmetic(0, budget, .frame(FrameOffset.reserve))
    code.arithmetic(7, budget, .register(r11))
    let isShort = code.jump(if: HostCondition.less)
    emitSlice(&code)
    // Calls from which nobody has returned do not add up.
    code.load(rax, .frame(FrameOffset.hostStack))
    code.arithmetic(5, .register(rax), immediate: Self.deepestStack)
    code.arithmetic(7, HostRegister.rsp, .register(rax))
    let isDeep = code.jump(if: HostCondition.below)
    code.byte(0xc3)
    code.resolve(isDeep)
    code.pop(rax)
    code.forgetExpectations()
    code.jump(.register(rax))
    code.resolve(isShort)
    code.arithmetic(5, budget, .frame(FrameOffset.reserve))
    code.resolve(isWanted)
    emitLeaveBehindCall(&code)
  }

  /// Leaves at the exit record behind the jump behind the call that led here.
  func emitLeaveBehindCall(_ code: inout HostAssembler) {
    code.pop(HostRegister.rax)
    code.arithmetic(0, .register(HostRegister.rax), immediate: 5)
    code.jump(to: glue.leave)
    code.align(to: 16)
  }

  /// The host's registers that a called function may change and that hold the guest's.
  private static let volatileRegisters = [
    HostRegister.rdx, HostRegister.rsi, HostRegister.rdi, HostRegister.r8, HostRegister.r9, HostRegister.r10,
  ]

  /// Has the place in a table of the TLB that an address falls on in a register, in bytes: see `TranslationCache.index`.
  static func emitEntryPlace(_ code: inout HostAssembler, of address: Int, in place: Int) {
    code.move(place, address)
    code.instruction(
      .primary, 0xc1, reg: 5, .register(place), size: 8, immediate: Int64(TranslationCache.indexBits), immediateSize: 1)
    code.arithmetic(6, place, .register(address), size: 4)
    code.instruction(.primary, 0xc1, reg: 5, .register(place), size: 4, immediate: 7, immediateSize: 1)
    code.arithmetic(4, .register(place), immediate: Int32((TranslationCache.pageCount - 1) << 5), size: 4)
  }

  private func emitRefill(
    _ code: inout HostAssembler, _ set: Int, isWrite: Bool, isPromised: Bool = false
  ) -> Int {
    let rax = HostRegister.rax
    let rcx = HostRegister.rcx
    let r11 = HostRegister.r11
    let tag = isWrite ? TLBOffset.writeTag : TLBOffset.readTag
    let page = isWrite ? SlotOffset.writePage : SlotOffset.readPage
    let addend = isWrite ? SlotOffset.writeAddend : SlotOffset.readAddend
    let start = code.position
    code.store(rcx, .frame(FrameOffset.scratch))
    code.store(rax, .frame(FrameOffset.scratch + 8))
    let again = code.position
    Self.emitEntryPlace(&code, of: rax, in: rcx)
    code.arithmetic(0, rcx, .frame(FrameOffset.set(set, SlotSetOffset.tlb)))
    code.arithmetic(4, .register(rax), immediate: -4096)
    code.arithmetic(7, rax, Self.state(rcx, tag))
    let isMiss = code.jump(if: HostCondition.notZero)
    func fillSlot() {
      code.store(rax, Self.state(r11, page))
      code.load(rcx, Self.state(rcx, TLBOffset.host))
      code.arithmetic(5, rcx, .register(rax))
      code.store(rcx, Self.state(r11, addend))
    }
    func finish() {
      code.load(rcx, .frame(FrameOffset.scratch))
      code.load(r11, .frame(FrameOffset.scratch + 8))
      code.byte(0xc3)
    }
    // What is not empty is on the list. It has to be there twice where rights are widened, as they are at CPL 0 only.
    if set != 0 {
      // TEST byte, 1: see `noPage`.
      code.instruction(
        .primary, 0xf6, reg: 0, Self.state(r11, page), size: 1, immediate: 1, immediateSize: 1)
      let isEmpty = code.jump(if: HostCondition.notZero)
      fillSlot()
      code.move(rax, rcx)
      finish()
      code.resolve(isEmpty)
    }
    fillSlot()
    let count = HostOperand.frame(FrameOffset.set(set, SlotSetOffset.filledCount))
    code.load(rcx, count)
    code.arithmetic(7, .register(rcx), immediate: Int32(FilledSlotCapacity))
    let areTooMany = code.jump(if: HostCondition.aboveOrEqual)
    code.loadAddress(rax, .frame(FrameOffset.set(set, SlotSetOffset.filled)))
    code.store(r11, .memory(base: rax, index: rcx, scale: 3, displacement: 0))
    code.resolve(areTooMany)
    code.arithmetic(0, count, immediate: 1)
    code.load(rax, Self.state(r11, addend))
    finish()

    code.resolve(isMiss)
    // From the slice to the rest of the budget.
    code.arithmetic(5, .register(GuestRegisters.budget), immediate: Self.missCost)
    code.arithmetic(0, .frame(FrameOffset.reserve), immediate: Self.missCost, size: 8)
    code.store(r11, .frame(FrameOffset.scratch + 16))
    for register in Self.volatileRegisters { code.push(register) }
    code.arithmetic(5, .register(HostRegister.rsp), immediate: 8)
    emitIfVectorsAreLoaded(&code, call: glue.putVectors)
    code.load(HostRegister.rdi, .frame(FrameOffset.cpu))
    code.load(HostRegister.rsi, .frame(FrameOffset.scratch + 8))
    code.loadConstant(HostRegister.rdx, isPromised ? 2 : isWrite ? 1 : 0)
    code.loadConstant(rax, Self.address(TranslationHandlers.fill))
    code.instruction(.primary, 0xff, reg: 2, .register(rax), size: 4)
    code.store(rax, .frame(FrameOffset.scratch + 24))
    emitIfVectorsAreLoaded(&code, call: glue.bringVectors)
    code.load(rax, .frame(FrameOffset.scratch + 24))
    code.arithmetic(0, .register(HostRegister.rsp), immediate: 8)
    for register in Self.volatileRegisters.reversed() { code.pop(register) }
    code.instruction(.primary, 0x85, reg: rax, .register(rax), size: 4)
    let isRefused = code.jump(if: HostCondition.zero)
    code.load(rax, .frame(FrameOffset.scratch + 8))
    code.load(r11, .frame(FrameOffset.scratch + 16))
    code.jump(to: again)
    code.resolve(isRefused)
    code.load(rcx, .frame(FrameOffset.scratch))
    emitLeaveBehindCall(&code)
    return start
  }

  private func emitIfVectorsAreLoaded(_ code: inout HostAssembler, call routine: Int) {
    code.arithmetic(7, .frame(FrameOffset.vectorsAreLoaded), immediate: 0, size: 4)
    let areNot = code.jump(if: HostCondition.zero)
    code.load(HostRegister.rax, .frame(FrameOffset.cpu))
    code.call(to: routine)
    code.resolve(areNot)
  }

  static func address(_ handler: OperationHandler) -> UInt64 {
    UInt64(UInt(bitPattern: unsafeBitCast(handler, to: UnsafeRawPointer.self)))
  }

  private static func address(_ function: TranslationHandlers.Fill) -> UInt64 {
    UInt64(UInt(bitPattern: unsafeBitCast(function, to: UnsafeRawPointer.self)))
  }

  private static func address(_ function: TranslationHandlers.ExchangeSlots) -> UInt64 {
    UInt64(UInt(bitPattern: unsafeBitCast(function, to: UnsafeRawPointer.self)))
  }
}
