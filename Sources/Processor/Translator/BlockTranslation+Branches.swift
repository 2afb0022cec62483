import CHost
import CZydis
import X86

/// Branches and the stack.
extension BlockTranslation {
  /// Near branches and stack operations of the code's own width.
  private var hasPlainStack: Bool {
    is64 ? op.size == 8 : op.size == 4 && mode.contains(.stack32)
  }

  private var isDirect: Bool { op.flags & OperationFlags.relative.rawValue != 0 }

  // MARK: Finding the target

  /// Looks up the block at RIP, which is in R11: then it is in RAX. Returns the jumps that are taken if there is none.
  /// `key` is the mode of the code there, this block's by default.
  mutating func lookUp(key: UInt64? = nil) -> [HostAssembler.Fixup] {
    let first = GuestRegisters.first
    let second = GuestRegisters.second
    code.move(first, second)
    code.instruction(.primary, 0xc1, reg: 5, .register(first), size: 8, immediate: 12, immediateSize: 1)
    code.arithmetic(6, first, .register(second), size: 4)
    code.arithmetic(4, .register(first), immediate: Int32(TranslationCache.blockEntryCount - 1), size: 4)
    code.instruction(.primary, 0xc1, reg: 4, .register(first), size: 4, immediate: 4, immediateSize: 1)
    code.arithmetic(0, first, .frame(FrameOffset.blockCache))
    code.arithmetic(7, second, .memory(base: first, index: nil, scale: 0, displacement: 0))
    let isOther = code.jump(if: HostCondition.notZero)
    code.load(first, .memory(base: first, index: nil, scale: 0, displacement: 8))
    code.instruction(.primary, 0x85, reg: first, .register(first), size: 8)
    let isNone = code.jump(if: HostCondition.zero)
    code.instruction(
      .primary, 0x81, reg: 7, .memory(base: first, index: nil, scale: 0, displacement: Int32(BlockOffset.key)), size: 8,
      immediate: Int64(key ?? block.pointee.key), immediateSize: 4)
    let isOtherMode = code.jump(if: HostCondition.notZero)
    return [isOther, isNone, isOtherMode]
  }

  /// Enters the block in RAX; RIP is in R11.
  mutating func enterFound() {
    let first = GuestRegisters.first
    let second = GuestRegisters.second
    code.arithmetic(4, .register(second), immediate: -4096)
    code.store(second, .frame(FrameOffset.codePage))
    code.move(second, first)
    code.jump(.memory(base: first, index: nil, scale: 0, displacement: Int32(BlockOffset.entry)))
  }

  /// Looks up the block at RIP, which is in R11, and keeps it for `enterKept`; leaves for the chain if there is none.
  /// `key` is the mode of the code there, this block's by default.
  mutating func keepTarget(key: UInt64? = nil) {
    let second = GuestRegisters.second
    for miss in lookUp(key: key) { leave(at: miss) }
    code.store(GuestRegisters.first, .frame(FrameOffset.target))
    code.arithmetic(4, .register(second), immediate: -4096)
    code.store(second, .frame(FrameOffset.nextCodePage))
  }

  /// Enters the block that was kept.
  mutating func enterKept() {
    let second = GuestRegisters.second
    code.load(second, .frame(FrameOffset.nextCodePage))
    code.store(second, .frame(FrameOffset.codePage))
    code.load(second, .frame(FrameOffset.target))
    code.jump(.memory(base: second, index: nil, scale: 0, displacement: Int32(BlockOffset.entry)))
    ended = true
  }

  // MARK: Jumps

  mutating func emitJumpIf() -> Bool {
    guard isDirect, is64 ? op.size == 8 : op.size == 4 else { return false }
    restoreFlags()
    emitFollow(code.jump(if: UInt8(truncatingIfNeeded: instruction.pointee.opcode & 15)), current)
    return true
  }

  mutating func emitJump() -> Bool {
    guard is64 ? op.size == 8 : op.size == 4 else { return false }
    if isDirect {
      follow(current)
      ended = true
      return true
    }
    guard instruction.pointee.meta.branch_type == ZYDIS_BRANCH_TYPE_NEAR, loadTarget() else { return false }
    saveFlags()
    for miss in lookUp() { leave(at: miss) }
    enterFound()
    ended = true
    return true
  }

  /// Has the target of an indirect branch in R11.
  private mutating func loadTarget() -> Bool {
    let second = GuestRegisters.second
    if let memory = memoryOperand {
      guard let address = address(of: memory) else { return false }
      code.load(second, access(address, size: wordSize, isWrite: false), size: wordSize)
      return true
    }
    guard let register = register(operands) else { return false }
    code.load(
      second, GuestRegisters.host(register.guest).map { .register($0) } ?? GuestRegisters.home(register.guest),
      size: wordSize)
    return true
  }

  /// Pushes the address of the next instruction.
  private mutating func pushReturnAddress() {
    let second = GuestRegisters.second
    let destination = access(stack(Int32(-wordSize)), size: wordSize, isWrite: true)
    // A direct stack address leaves R11 free; otherwise it is part of the operand.
    if is64 {
      code.load(second, .frame(FrameOffset.codePage))
      code.loadAddress(
        second, .memory(base: second, index: nil, scale: 0, displacement: Int32(nextOffset)), size: wordSize)
      code.store(second, destination, size: wordSize)
    } else {
      code.loadAddress(second, destination)
      code.load(GuestRegisters.first, .frame(FrameOffset.codePage))
      code.loadAddress(
        GuestRegisters.first,
        .memory(base: GuestRegisters.first, index: nil, scale: 0, displacement: Int32(nextOffset)), size: wordSize)
      code.store(
        GuestRegisters.first, .memory(base: second, index: nil, scale: 0, displacement: 0), size: wordSize)
    }
    moveStackPointer(by: Int32(-wordSize))
  }

  mutating func emitCall() -> Bool {
    guard hasPlainStack, instruction.pointee.meta.branch_type != ZYDIS_BRANCH_TYPE_FAR else { return false }
    saveFlags()
    if isDirect {
      pushReturnAddress()
      follow(current)
      ended = true
      return true
    }
    guard loadTarget() else { return false }
    destroyFlags()
    keepTarget()
    pushReturnAddress()
    enterKept()
    return true
  }

  mutating func emitReturn() -> Bool {
    guard hasPlainStack, instruction.pointee.meta.branch_type != ZYDIS_BRANCH_TYPE_FAR else { return false }
    let released = instruction.pointee.operand_count_visible > 0 ? Int32(immediate.value & 0xffff) : 0
    // A group may have checked the access already, so that it saves nothing.
    destroyFlags()
    let source = access(stack(0), size: wordSize, isWrite: false)
    code.load(GuestRegisters.second, source, size: wordSize)
    for miss in lookUp() { leave(at: miss) }
    moveStackPointer(by: Int32(wordSize) + released)
    enterFound()
    ended = true
    return true
  }

  // MARK: Stack

  mutating func emitPush() -> Bool {
    guard hasPlainStack else { return false }
    if op.flags & OperationFlags.immediateFirst.rawValue != 0 {
      let destination = access(stack(Int32(-wordSize)), size: wordSize, isWrite: true)
      code.instruction(
        .primary, 0xc7, reg: 0, destination, size: wordSize,
        immediate: Int64(Int32(truncatingIfNeeded: operands[0].imm.value.s)), immediateSize: 4)
    } else if let memory = memoryOperand {
      guard let address = address(of: memory) else { return false }
      _ = accessInSecond(stack(Int32(-wordSize)), size: wordSize, isWrite: true)
      code.store(GuestRegisters.second, .frame(FrameOffset.target))
      code.load(
        GuestRegisters.second, access(address, size: wordSize, isWrite: false), size: wordSize)
      code.load(GuestRegisters.first, .frame(FrameOffset.target))
      code.store(
        GuestRegisters.second, .memory(base: GuestRegisters.first, index: nil, scale: 0, displacement: 0),
        size: wordSize)
    } else {
      guard let register = register(operands) else { return false }
      let destination = access(stack(Int32(-wordSize)), size: wordSize, isWrite: true)
      if let host = GuestRegisters.host(register.guest) {
        code.store(host, destination, size: wordSize)
      } else {
        code.load(GuestRegisters.second, GuestRegisters.home(register.guest))
        code.store(GuestRegisters.second, destination, size: wordSize)
      }
    }
    moveStackPointer(by: Int32(-wordSize))
    return true
  }

  mutating func emitPop() -> Bool {
    guard hasPlainStack, memoryOperand == nil, let register = register(operands),
      register.guest != GuestRegisters.rsp
    else { return false }
    let source = access(stack(0), size: wordSize, isWrite: false)
    pop(into: register.guest, from: source)
    moveStackPointer(by: Int32(wordSize))
    return true
  }

  private mutating func pop(into guest: Int, from source: HostOperand) {
    if let host = GuestRegisters.host(guest) {
      code.load(host, source, size: wordSize)
    } else {
      code.load(GuestRegisters.second, source, size: wordSize)
      code.store(GuestRegisters.second, GuestRegisters.home(guest))
    }
  }

  mutating func emitLeave() -> Bool {
    guard hasPlainStack, let rbp = GuestRegisters.host(5), let rsp = GuestRegisters.host(GuestRegisters.rsp) else {
      return false
    }
    let frame = Address(base: 5, index: nil, scale: 0, displacement: 0, segment: nil, size: wordSize)
    let source = access(frame, size: wordSize, isWrite: false)
    code.load(GuestRegisters.second, source, size: wordSize)
    code.loadAddress(
      rsp, .memory(base: rbp, index: nil, scale: 0, displacement: Int32(wordSize)), size: wordSize)
    code.load(rbp, .register(GuestRegisters.second), size: wordSize)
    return true
  }
}
