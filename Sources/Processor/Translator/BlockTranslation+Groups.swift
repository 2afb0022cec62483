import CHost
import CZydis
import X86

/// Accesses off one base register, or one base and index, are checked together.
///
/// Frames on the stack and fields of structures are accessed several times while their base register keeps its value or
/// moves by constants (PUSH, POP, ADD, SUB). The first access looks ahead and checks the range of all of them; the others
/// need only the distance to the host's page. A range that crosses into another page is refused: the chain goes on
/// with the block, or, where that has happened a few times, another translation of the rest of it, without groups.
extension BlockTranslation {
  /// What an address is off: it is the sum of these registers and of a displacement, and no segment has a part in it.
  struct Origin: Equatable {
    var base: Int
    var index: Int?
    /// As a shift.
    var scale = 0
  }

  /// An access off an origin.
  struct OriginAccess {
    var origin: Origin
    var displacement: Int32
    var size: Int
    var isWrite: Bool
    /// Whether the address must be a multiple of the size.
    var isAligned: Bool
  }

  /// A range, relative to the present value of an origin, that its slot has been checked for.
  struct Group {
    var origin: Origin
    var start: Int64
    var end: Int64
    /// Whether it may be written.
    var isWrite: Bool
    /// A place that is known to be a multiple of `alignment`.
    var alignedPlace: Int64 = 0
    var alignment = 1

    /// Distant slots are shared by base registers, so the origin has to be the group's.
    func covers(_ access: OriginAccess) -> Bool {
      let displacement = Int64(access.displacement)
      return access.origin == origin && displacement >= start && displacement + Int64(access.size) <= end
    }

    func isAligned(_ access: OriginAccess) -> Bool {
      alignment >= access.size && (Int64(access.displacement) - alignedPlace) & Int64(access.size - 1) == 0
    }
  }

  /// How far a group reaches, in instructions and in bytes.
  private static let longestReach = 16
  private static let widestRange: Int64 = 256

  /// Bits of addresses that origins are sums of. In code with 16-bit addresses or with segments there are no origins.
  private var originSize: Int { is64 ? 64 : 32 }

  /// An address's origin. Nil if it has none, or a segment has a part in it.
  func origin(of address: Address) -> Origin? {
    guard isFlat, let base = address.base, address.segment == nil, address.size * 8 == originSize else { return nil }
    return Origin(base: base, index: address.index, scale: address.index == nil ? 0 : address.scale)
  }

  func slot(of access: OriginAccess) -> Int { slot(access.origin, Int64(access.displacement)) }

  /// What is known to cover an access. What may be written may be read.
  func group(covering access: OriginAccess) -> Group? {
    let slot = slot(of: access)
    if let group = writeGroups[slot], group.covers(access) { return group }
    guard !access.isWrite, let group = readGroups[slot], group.covers(access) else { return nil }
    return group
  }

  /// Notes what has been checked for an access, or found out about it.
  mutating func note(_ group: Group, _ access: OriginAccess) {
    var group = group
    if access.isAligned { (group.alignedPlace, group.alignment) = (Int64(access.displacement), access.size) }
    if group.isWrite { writeGroups[slot(of: access)] = group } else { readGroups[slot(of: access)] = group }
  }

  /// The range to check at an access that is about to be made: that of the access, and those of later ones off the same
  /// origin. Reads share the check of a write, and have it made where one is to come unless something faults.
  func formGroup(_ access: OriginAccess) -> Group {
    let (origin, displacement) = (access.origin, Int64(access.displacement))
    let single = Group(
      origin: origin, start: displacement, end: displacement + Int64(access.size), isWrite: access.isWrite)
    guard !isTail else { return single }
    var group = single
    let slot = slot(of: access)
    var isCertain = true
    var moved: Int64 = 0
    let count = Int(block.pointee.instructionCount)
    for index in current..<min(count, current + Self.longestReach) {
      guard decodedCount > index, Self.kinds[Int(decoded(index).pointee.mnemonic.rawValue)] != .none || isNative(index)
      else { break }
      forEachAccess(of: index, off: origin) { offset, size, isWritten in
        guard self.slot(origin, offset) == slot, !isWritten || group.isWrite || isCertain else { return }
        let start = min(group.start, moved + offset)
        let end = max(group.end, moved + offset + Int64(size))
        guard end - start <= Self.widestRange else { return }
        (group.start, group.end) = (start, end)
        group.isWrite = group.isWrite || isWritten
      }
      isCertain = isCertain && !operations[index].isDirectJump
      guard let change = change(of: origin, by: index) else { break }
      moved += change
    }
    return Int32(exactly: group.start) == nil ? single : group
  }

  /// What brings a group's page.
  func refillRequest(_ access: OriginAccess, _ group: Group) -> RefillRequest {
    let size = Int(group.end - group.start)
    return RefillRequest(
      slot: slot(of: access), isWrite: group.isWrite, size: size, isGroup: size > access.size,
      isPromised: group.isWrite && !access.isWrite)
  }

  private func isNative(_ index: Int) -> Bool { operations[index].semantic == PseudoInstructions.native }

  /// What instruction `index` adds to the sum of an origin's registers. Nil if that is not known.
  private func change(of origin: Origin, by index: Int) -> Int64? {
    guard let change = change(of: origin.base, by: index) else { return nil }
    guard let number = origin.index else { return change }
    return self.change(of: number, by: index).map { change &+ $0 << Int64(origin.scale) }
  }

  /// What instruction `index` adds to a register. Nil if that is not known.
  private func change(of register: Int, by index: Int) -> Int64? {
    let instruction = decoded(index)
    let operands = decodedOperands(index)
    let isStack = register == GuestRegisters.rsp
    switch instruction.pointee.mnemonic {
    case ZYDIS_MNEMONIC_PUSH, ZYDIS_MNEMONIC_PUSHFQ, ZYDIS_MNEMONIC_PUSHFD:
      if isStack { return pushesWords(index) ? Int64(-stackSize) : nil }
    case ZYDIS_MNEMONIC_POP:
      if isStack { return pushesWords(index) && !names(operands, register) ? Int64(stackSize) : nil }
    case ZYDIS_MNEMONIC_ADD, ZYDIS_MNEMONIC_SUB:
      if names(operands, register), Int(operands[0].size) == originSize,
        operands[1].type == ZYDIS_OPERAND_TYPE_IMMEDIATE
      {
        let value = operands[1].imm.value.s
        return instruction.pointee.mnemonic == ZYDIS_MNEMONIC_ADD ? value : -value
      }
    default: break
    }
    for place in 0..<Int(instruction.pointee.operand_count)
    where operands[place].type == ZYDIS_OPERAND_TYPE_REGISTER && operands[place].isWritten {
      if names(operands + place, register) { return nil }
    }
    return 0
  }

  /// Whether an instruction that works on the stack moves its pointer by the pointer's size.
  private func pushesWords(_ index: Int) -> Bool {
    stackSize * 8 == originSize && Int(operations[index].size) == stackSize
  }

  /// Whether the operand is a part of a general register.
  private func names(_ operand: UnsafePointer<ZydisDecodedOperand>, _ register: Int) -> Bool {
    guard operand.pointee.type == ZYDIS_OPERAND_TYPE_REGISTER else { return false }
    switch ZydisRegisterGetClass(operand.pointee.reg.value) {
    case ZYDIS_REGCLASS_GPR8, ZYDIS_REGCLASS_GPR16, ZYDIS_REGCLASS_GPR32, ZYDIS_REGCLASS_GPR64:
      return Int(RegisterNumbers.number(of: operand.pointee.reg.value)) / 8 == register
    default: return false
    }
  }

  /// Calls `body` with displacement, size and kind of each access that instruction `index` makes off an origin.
  private func forEachAccess(of index: Int, off origin: Origin, _ body: (Int64, Int, Bool) -> Void) {
    let instruction = decoded(index)
    let operands = decodedOperands(index)
    if origin == Origin(base: GuestRegisters.rsp), pushesWords(index) {
      switch instruction.pointee.mnemonic {
      case ZYDIS_MNEMONIC_PUSH, ZYDIS_MNEMONIC_PUSHFQ, ZYDIS_MNEMONIC_PUSHFD, ZYDIS_MNEMONIC_CALL:
        body(Int64(-stackSize), stackSize, true)
      case ZYDIS_MNEMONIC_POP, ZYDIS_MNEMONIC_RET: body(0, stackSize, false)
      default: break
      }
    }
    guard Int(instruction.pointee.address_width) == originSize else { return }
    for place in 0..<Int(instruction.pointee.operand_count_visible)
    where operands[place].type == ZYDIS_OPERAND_TYPE_MEMORY && operands[place].mem.type == ZYDIS_MEMOP_TYPE_MEM {
      let memory = operands[place].mem
      switch memory.segment {
      case ZYDIS_REGISTER_FS, ZYDIS_REGISTER_GS, ZYDIS_REGISTER_CS: continue
      default: break
      }
      guard number(of: memory.base) == origin.base, number(of: memory.index) == origin.index,
        origin.index == nil || Int(memory.scale) == 1 << origin.scale,
        Int64(Int32(truncatingIfNeeded: memory.disp.value)) == memory.disp.value
      else { continue }
      body(memory.disp.value, Int(operands[place].size) / 8, operands[place].isWritten)
    }
  }

  /// A general register's number; nil: there is none, or it is RIP.
  private func number(of register: ZydisRegister) -> Int? {
    let number = RegisterNumbers.number(of: register)
    return number == Operation.absent || number == Operation.instructionPointer ? nil : Int(number) / 8
  }

  /// Brings what is known of slots in line with what the current instruction has done to registers.
  mutating func moveGroups() {
    guard !readGroups.isEmpty || !writeGroups.isEmpty else { return }
    move(&readGroups)
    move(&writeGroups)
  }

  private func move(_ groups: inout [Int: Group]) {
    for (slot, group) in groups {
      guard let change = change(of: group.origin, by: current) else {
        groups[slot] = nil
        continue
      }
      guard change != 0 else { continue }
      groups[slot]?.start = group.start &- change
      groups[slot]?.end = group.end &- change
      groups[slot]?.alignedPlace = group.alignedPlace &- change
    }
  }
}
