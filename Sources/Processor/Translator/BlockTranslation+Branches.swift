import CHost
import CZydis
import X86

/// Branches and the stack.
extension BlockTranslation {
  /// Near branches of the code's own width; where IP is not that of flat code, also of the other.
  private var hasPlainTarget: Bool {
    switch op.size {
    case 8: is64
    case 4: !is64
    case 2: !isFlat
    default: false
    }
  }

  /// Stack operations of a width that pushes have in this mode.
  private var hasPlainStack: Bool { is64 ? op.size == 8 : op.size == 4 || op.size == 2 }

  /// In bytes, of what is pushed, popped or jumped to.
  private var width: Int { Int(op.size) }

  private var isDirect: Bool { op.flags & OperationFlags.relative.rawValue != 0 }

  // MARK: Finding the target

  /// Looks up the block at RIP, which is in R11: then it is in RAX. Returns the jumps that are taken if there is none.
  /// `key` is the mode of the code there, this block's by default.
  mutating func lookUp(key: UInt64? = nil) -> [HostAssembler.Fixup] {
    let first = GuestRegisters.first
    let second = GuestRegisters.second
    let misses = code.findBlock(first, at: second)
    let key = key ?? block.pointee.key
    let place = HostOperand.memory(base: first, index: nil, scale: 0, displacement: Int32(BlockOffset.key))
    guard key >> 32 == 0 else {
      let base = HostOperand.memory(base: first, index: nil, scale: 0, displacement: Int32(BlockOffset.key + 4))
      let fixups = [(place, key), (base, key >> 32)].map { (half, value) in
        code.arithmetic(7, half, immediate: Int32(truncatingIfNeeded: value), size: 4)
        return code.jump(if: HostCondition.notZero)
      }
      return misses + fixups
    }
    code.instruction(.primary, 0x81, reg: 7, place, size: 8, immediate: Int64(key), immediateSize: 4)
    let isOtherMode = code.jump(if: HostCondition.notZero)
    return misses + [isOtherMode]
  }

  /// Enters the block in RAX; RIP is in R11.
  mutating func enterFound() {
    let first = GuestRegisters.first
    let second = GuestRegisters.second
    if isFlat {
      code.arithmetic(4, .register(second), immediate: -4096)
      code.store(second, .frame(FrameOffset.codePage))
    }
    code.move(second, first)
    code.jump(.memory(base: first, index: nil, scale: 0, displacement: Int32(BlockOffset.entry)))
  }

  /// Looks up the block at RIP, which is in R11, and keeps it for `enterKept`; leaves for the chain if there is none.
  /// `key` is the mode of the code there, this block's by default.
  mutating func keepTarget(key: UInt64? = nil) {
    let second = GuestRegisters.second
    for miss in lookUp(key: key) { leave(at: miss) }
    code.store(GuestRegisters.first, .frame(FrameOffset.target))
    guard isFlat else { return }
    code.arithmetic(4, .register(second), immediate: -4096)
    code.store(second, .frame(FrameOffset.nextCodePage))
  }

  /// Enters the block that was kept.
  mutating func enterKept() {
    let second = GuestRegisters.second
    if isFlat {
      code.load(second, .frame(FrameOffset.nextCodePage))
      code.store(second, .frame(FrameOffset.codePage))
    }
    code.load(second, .frame(FrameOffset.target))
    code.jump(.memory(base: second, index: nil, scale: 0, displacement: Int32(BlockOffset.entry)))
    ended = true
  }

  // MARK: Jumps

  /// Whether this is a direct branch that cannot fault.
  var isPlainDirectBranch: Bool { isDirect && hasPlainTarget && isWithinLimit }

  /// Whether the direct branch stays within CS's limit; one that does not faults.
  private var isWithinLimit: Bool {
    isFlat || UInt64(bitPattern: target(of: current)) <= UInt64(block.pointee.codeLimit)
  }

  mutating func emitJumpIf() -> Bool {
    guard isPlainDirectBranch else { return false }
    restoreFlags()
    emitFollow(code.jump(if: UInt8(truncatingIfNeeded: instruction.pointee.opcode & 15)), current)
    return true
  }

  mutating func emitJump() -> Bool {
    guard hasPlainTarget else { return false }
    if isDirect {
      guard isWithinLimit else { return false }
      follow(current)
      ended = true
      return true
    }
    guard instruction.pointee.meta.branch_type == ZYDIS_BRANCH_TYPE_NEAR, loadTarget() else { return false }
    saveFlags()
    for miss in lookUp() { leave(at: miss) }
    returnLoans()
    enterFound()
    ended = true
    return true
  }

  /// Has the target of an indirect branch in R11.
  private mutating func loadTarget() -> Bool {
    let second = GuestRegisters.second
    if let memory = memoryOperand {
      guard let address = address(of: memory) else { return false }
      loadWhole(second, access(address, size: width, isWrite: false))
      return true
    }
    guard let register = register(operands) else { return false }
    loadWhole(second, register.host.map { .register($0) } ?? GuestRegisters.home(register.guest))
    return true
  }

  /// Loads what is as wide as the instruction's operand, zero-extended.
  private mutating func loadWhole(_ register: Int, _ source: HostOperand) {
    guard width == 2 else { return code.load(register, source, size: width) }
    code.instruction(.escape0f, 0xb7, reg: register, source, size: 4)
  }

  /// Pushes the address of the next instruction.
  private mutating func pushReturnAddress() {
    let first = GuestRegisters.first
    let second = GuestRegisters.second
    let destination = access(stack(Int32(-width)), size: width, isWrite: true)
    // A direct stack address leaves R11 free; otherwise it is part of the operand.
    if is64 {
      loadAddress(ofPlace: nextPlace, into: second)
      code.store(second, destination, size: width)
    } else {
      code.loadAddress(second, destination)
      loadAddress(ofPlace: nextPlace, into: first)
      code.store(first, .memory(base: second, index: nil, scale: 0, displacement: 0), size: width)
    }
    moveStackPointer(by: Int32(-width))
  }

  mutating func emitCall() -> Bool {
    guard hasPlainStack, hasPlainTarget, instruction.pointee.meta.branch_type != ZYDIS_BRANCH_TYPE_FAR else {
      return false
    }
    saveFlags()
    if isDirect {
      guard isWithinLimit else { return false }
      pushReturnAddress()
      returnLoans()
      emitHostCall { $0.emitExit($0.current) }
      ended = true
      return true
    }
    guard loadTarget() else { return false }
    destroyFlags()
    keepTarget()
    pushReturnAddress()
    returnLoans()
    emitHostCall { $0.enterKept() }
    return true
  }

  // MARK: Return addresses
  //
  // Translated code calls as the guest does: the host's stack has, for each call, the guest's return address and the host's,
  // so that the host predicts where RET leads. RET compares the address that it finds on the guest's stack with the one that
  // is expected; if they differ, it drops the expected one and looks the block up.
  //
  // All that is expected is forgotten whenever translated code is left, and on the way between CPL 3 and 0. So what a
  // return address meant at the call it means at the return: the page has not been mapped anew, the block is there, and the
  // mode is the caller's.

  private var expectsReturns: Bool { is64 && isFlat }

  /// What RET finds on the host's stack: the guest's return address.
  private var expectedAddress: HostOperand { .memory(base: HostRegister.rsp, index: nil, scale: 0, displacement: 8) }

  /// Goes where `lead` leads, and comes back here; R11 is the guest's return address.
  private mutating func emitHostCall(_ lead: (inout Self) -> Void) {
    guard expectsReturns else { return lead(&self) }
    let second = GuestRegisters.second
    code.push(second)
    let call = code.call()
    code.loadAddress(
      HostRegister.rsp, .memory(base: HostRegister.rsp, index: nil, scale: 0, displacement: 8))
    // R11 is the return address again; RIP is on the page of this block.
    code.loadAddress(
      second, .memory(base: second, index: nil, scale: 0, displacement: Int32(truncatingIfNeeded: -nextPlace)))
    code.store(second, .frame(FrameOffset.codePage))
    emitExit(Int(block.pointee.instructionCount))
    code.resolve(call)
    lead(&self)
  }

  /// Returns to where R11 says, if that is expected; otherwise goes on behind it.
  private mutating func returnAsExpected(releasing count: Int32) {
    code.arithmetic(7, GuestRegisters.second, expectedAddress)
    let isOther = code.jump(if: HostCondition.notZero)
    moveStackPointer(by: count)
    returnLoans()
    code.byte(0xc3)
    code.resolve(isOther)
    // The last one stays: see `Translator.emitExpectation`.
    code.load(GuestRegisters.first, .frame(FrameOffset.emptySlot + SlotOffset.readPage))
    code.arithmetic(7, GuestRegisters.first, expectedAddress)
    let isLast = code.jump(if: HostCondition.zero)
    code.loadAddress(
      HostRegister.rsp, .memory(base: HostRegister.rsp, index: nil, scale: 0, displacement: 16))
    code.resolve(isLast)
  }

  mutating func emitReturn() -> Bool {
    guard hasPlainStack, hasPlainTarget, instruction.pointee.meta.branch_type != ZYDIS_BRANCH_TYPE_FAR else {
      return false
    }
    let released = instruction.pointee.operand_count_visible > 0 ? Int32(immediate.value & 0xffff) : 0
    // The block ends here.
    saveFlags()
    destroyFlags()
    loadWhole(GuestRegisters.second, access(stack(0), size: width, isWrite: false))
    if expectsReturns { returnAsExpected(releasing: Int32(width) + released) }
    for miss in lookUp() { leave(at: miss) }
    moveStackPointer(by: Int32(width) + released)
    returnLoans()
    enterFound()
    ended = true
    return true
  }

  // MARK: Stack

  mutating func emitPush() -> Bool {
    if op.third == Operation.segmentMark { return emitSelectorPush() }
    guard hasPlainStack else { return false }
    if op.flags & OperationFlags.immediateFirst.rawValue != 0 {
      let destination = access(stack(Int32(-width)), size: width, isWrite: true)
      code.instruction(
        .primary, 0xc7, reg: 0, destination, size: width,
        immediate: Int64(Int32(truncatingIfNeeded: operands[0].imm.value.s)), immediateSize: min(width, 4))
    } else if let memory = memoryOperand {
      guard let address = address(of: memory) else { return false }
      // Read first: a push that does not happen leaves no mark in the page tables.
      code.load(GuestRegisters.second, access(address, size: width, isWrite: false), size: width)
      code.store(GuestRegisters.second, .frame(FrameOffset.target))
      let destination = accessInSecond(stack(Int32(-width)), size: width, isWrite: true)
      code.load(GuestRegisters.first, .frame(FrameOffset.target))
      code.store(GuestRegisters.first, destination, size: width)
    } else {
      guard let register = register(operands) else { return false }
      let destination = access(stack(Int32(-width)), size: width, isWrite: true)
      if let host = register.host {
        code.store(host, destination, size: width)
      } else {
        code.load(GuestRegisters.second, GuestRegisters.home(register.guest))
        code.store(GuestRegisters.second, destination, size: width)
      }
    }
    moveStackPointer(by: Int32(-width))
    return true
  }

  mutating func emitPop() -> Bool {
    if op.third == Operation.segmentMark { return emitSegmentPop() }
    guard hasPlainStack, memoryOperand == nil, let register = register(operands) else { return false }
    // RSP becomes what was popped; a part of it is the chain's.
    let isPointer = register.guest == GuestRegisters.rsp
    guard !isPointer || width == 8 else { return false }
    let source = access(stack(0), size: width, isWrite: false)
    pop(into: register.guest, from: source)
    if !isPointer { moveStackPointer(by: Int32(width)) }
    return true
  }

  private mutating func pop(into guest: Int, from source: HostOperand) {
    if let host = host(guest) {
      code.load(host, source, size: width)
    } else {
      code.load(GuestRegisters.second, source, size: width)
      code.store(GuestRegisters.second, GuestRegisters.home(guest))
    }
  }

  mutating func emitLeave() -> Bool {
    guard hasPlainStack, let rbp = GuestRegisters.host(5), let rsp = GuestRegisters.host(GuestRegisters.rsp) else {
      return false
    }
    var frame = stack(0)
    frame.base = 5
    code.load(GuestRegisters.second, access(frame, size: width, isWrite: false), size: width)
    code.loadAddress(
      rsp, .memory(base: rbp, index: nil, scale: 0, displacement: Int32(width)), size: stackSize)
    code.load(rbp, .register(GuestRegisters.second), size: width)
    return true
  }
}
