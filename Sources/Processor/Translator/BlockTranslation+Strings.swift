import CHost
import CZydis
import X86

/// String instructions upwards. By themselves they are plain accesses; REP MOVS and REP STOS of flat code are the host's
/// own, within a page each. RSI, RDI and RCX are in their namesakes. All others are the chain's, and so is what REP has cross
/// into another page.
extension BlockTranslation {
  private static let rsi = 6
  private static let rdi = 7

  private var isRepeated: Bool { op.flags & (OperationFlags.rep.rawValue | OperationFlags.repNE.rawValue) != 0 }
  private var isString: Bool { instruction.pointee.meta.category == ZYDIS_CATEGORY_STRINGOP }
  /// In bytes.
  private var addressSize: Int { Int(instruction.pointee.address_width) / 8 }

  // MARK: One by one

  /// What RSI or RDI points to; only the former's segment can be another.
  private func element(_ base: Int) -> Address {
    var address = Address(base: base, scale: 0, displacement: 0, size: addressSize)
    setSegment(&address, base == Self.rdi ? SegmentRegister.es.rawValue : Int(op.segmentRegister))
    return address
  }

  /// Leaves if strings run downwards. Destroys RAX and the flags.
  private mutating func leaveIfDownward() {
    destroyFlags()
    code.load(GuestRegisters.first, .frame(FrameOffset.cpu))
    test(StateOffset.rflags, RFLAGS.df)
    leave(if: HostCondition.notZero)
  }

  /// LEA, which leaves the flags alone.
  private mutating func advance(_ register: Int) {
    code.loadAddress(
      register, .memory(base: register, index: nil, scale: 0, displacement: Int32(op.size)), size: addressSize)
  }

  /// MOV of the element at RSI into a register, of which it leaves the rest.
  private mutating func loadElement(into register: Int, _ place: HostOperand) {
    code.instruction(
      .primary, op.size == 1 ? 0x8a : 0x8b, reg: register, place, size: Int(op.size), hasByteRegister: op.size == 1)
  }

  /// CMP of a register with an element.
  private mutating func compare(_ register: Int, _ place: HostOperand) {
    code.instruction(
      .primary, op.size == 1 ? 0x3a : 0x3b, reg: register, place, size: Int(op.size), hasByteRegister: op.size == 1)
    noteFlagsWritten()
  }

  mutating func emitLoadString() -> Bool {
    guard !isRepeated else { return false }
    leaveIfDownward()
    loadElement(into: hostOfRAX, access(element(Self.rsi), size: Int(op.size), isWrite: false))
    advance(Self.rsi)
    return true
  }

  mutating func emitScanString() -> Bool {
    guard !isRepeated else { return false }
    leaveIfDownward()
    compare(hostOfRAX, access(element(Self.rdi), size: Int(op.size), isWrite: false))
    advance(Self.rdi)
    return true
  }

  mutating func emitCompareString() -> Bool {
    guard isString, !isRepeated else { return false }
    accessBoth(isMove: false)
    compare(GuestRegisters.first, .memory(base: GuestRegisters.second, index: nil, scale: 0, displacement: 0))
    advance(Self.rsi)
    advance(Self.rdi)
    return true
  }

  mutating func emitMoveString() -> Bool {
    guard isString else { return false }
    guard !isRepeated else { return emitRepeated(isMove: true) }
    accessBoth(isMove: true)
    code.store(
      GuestRegisters.first, .memory(base: GuestRegisters.second, index: nil, scale: 0, displacement: 0),
      size: Int(op.size))
    advance(Self.rsi)
    advance(Self.rdi)
    return true
  }

  mutating func emitStoreString() -> Bool {
    guard !isRepeated else { return emitRepeated(isMove: false) }
    leaveIfDownward()
    code.store(hostOfRAX, access(element(Self.rdi), size: Int(op.size), isWrite: true), size: Int(op.size))
    advance(Self.rdi)
    return true
  }

  /// Has the element at RSI in RAX and the host's address of that at RDI in R11.
  private mutating func accessBoth(isMove: Bool) {
    leaveIfDownward()
    loadElement(into: GuestRegisters.second, access(element(Self.rsi), size: Int(op.size), isWrite: false))
    code.store(GuestRegisters.second, .frame(FrameOffset.target))
    _ = accessInSecond(element(Self.rdi), size: Int(op.size), isWrite: isMove)
    code.load(GuestRegisters.first, .frame(FrameOffset.target))
  }

  // MARK: Repeated

  private mutating func emitRepeated(isMove: Bool) -> Bool {
    guard isFlat, addressSize == (is64 ? 8 : 4), op.flags & OperationFlags.rep.rawValue != 0,
      !isMove || origin(of: element(Self.rsi)) != nil
    else { return false }
    let first = GuestRegisters.first
    let second = GuestRegisters.second
    let rcx = HostRegister.rcx
    let shift = Int(op.size).trailingZeroBitCount
    // They leave the guest's flags alone.
    leaveIfDownward()
    let retry = code.position
    if !is64 {
      // The host's instruction takes all of the registers.
      for register in isMove ? [rcx, Self.rsi, Self.rdi] : [rcx, Self.rdi] {
        code.load(second, .register(register), size: 4)
        code.arithmetic(7, second, .register(register))
        leave(if: HostCondition.notZero)
      }
    }
    // Nothing is looked at for nothing.
    code.instruction(.primary, 0x85, reg: rcx, .register(rcx), size: 8)
    let isNone = code.jump(if: HostCondition.zero)
    code.arithmetic(7, .register(rcx), immediate: Int32(4096 >> shift))
    leave(if: HostCondition.above)
    // Where on a page it may begin: at 4096 less its bytes, at most.
    code.move(second, rcx)
    if shift > 0 {
      code.instruction(
        .primary, 0xc1, reg: 4, .register(second), size: 8, immediate: Int64(shift), immediateSize: 1)
    }
    code.instruction(.primary, 0xf7, reg: 3, .register(second), size: 8)
    code.arithmetic(0, .register(second), immediate: 4096)
    // A write that does not happen leaves no mark in the page tables.
    if isMove { check(Self.rsi, HostRegister.rsi, isWrite: false, retry: retry) }
    check(Self.rdi, HostRegister.rdi, isWrite: true, retry: retry)
    let toHost = addend(ofSlot: stringSlot(Self.rdi), isWrite: true)
    let fromHost = addend(ofSlot: stringSlot(Self.rsi), isWrite: false)
    code.arithmetic(0, HostRegister.rdi, toHost)
    if isMove {
      code.arithmetic(0, HostRegister.rsi, fromHost)
    } else {
      code.move(first, hostOfRAX)
    }
    if op.size == 2 { code.byte(0x66) }
    code.byte(0xf3)
    if op.size == 8 { code.byte(0x48) }
    code.byte((isMove ? 0xa4 : 0xaa) | (op.size == 1 ? 0 : 1))
    code.arithmetic(5, HostRegister.rdi, toHost)
    if isMove { code.arithmetic(5, HostRegister.rsi, fromHost) }
    code.resolve(isNone)
    return true
  }

  private func stringSlot(_ base: Int) -> Int { slot(Origin(base: base), 0) }

  /// Has the page of a pointer in its slot, and leaves unless the string begins there where R11 says, at most.
  private mutating func check(_ base: Int, _ host: Int, isWrite: Bool, retry: Int) {
    let first = GuestRegisters.first
    let slot = stringSlot(base)
    code.move(first, host)
    let request = RefillRequest(slot: slot, isWrite: isWrite, size: 1)
    refill(request, at: findPage(request), back: retry)
    code.arithmetic(7, first, .register(GuestRegisters.second))
    leave(if: HostCondition.above)
    // What is known of these slots is of other pages, perhaps.
    writeGroups[slot] = nil
    readGroups[slot] = nil
  }
}
