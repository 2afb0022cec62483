import CHost
import CZydis
import X86

/// Accesses off one base register are checked together.
///
/// Frames on the stack and fields of structures are accessed several times while their base register keeps its value or
/// moves by constants (PUSH, POP, ADD, SUB). The first access looks ahead and checks the range of all of them; the others
/// need only the distance to the host's page. A range that crosses into another page is refused: the chain goes on
/// with the block, or, where that has happened a few times, another translation of the rest of it, without groups.
extension BlockTranslation {
  /// A range, relative to the present value of a base register, that its slot has been checked for.
  struct Group {
    var base: Int
    var start: Int64
    var end: Int64

    /// Distant slots are shared by base registers, so the register has to be the group's.
    func covers(_ base: Int, _ displacement: Int64, _ size: Int) -> Bool {
      base == self.base && displacement >= start && displacement + Int64(size) <= end
    }
  }

  /// How far a group reaches, in instructions and in bytes.
  private static let longestReach = 16
  private static let widestRange: Int64 = 256

  /// The range to check at an access that is about to be made, and whether for writing: that of the access, and those of
  /// later ones off the same base register. Reads share the check of a write, and have it made where one is sure to come.
  func group(
    base: Int, displacement: Int64, size: Int, isWrite: Bool
  ) -> (group: Group, isWrite: Bool) {
    var group = Group(base: base, start: displacement, end: displacement + Int64(size))
    guard !isTail else { return (group, isWrite) }
    let slot = slot(base, displacement)
    var isWrite = isWrite
    var isCertain = true
    var moved: Int64 = 0
    let count = Int(block.pointee.instructionCount)
    for index in current..<min(count, current + Self.longestReach) {
      guard decodedCount > index, Self.kinds[Int(decoded(index).pointee.mnemonic.rawValue)] != .none || isNative(index)
      else { break }
      forEachAccess(of: index, base: base) { offset, size, isWritten in
        guard self.slot(base, offset) == slot, !isWritten || isWrite || isCertain else { return }
        let start = min(group.start, moved + offset)
        let end = max(group.end, moved + offset + Int64(size))
        guard end - start <= Self.widestRange else { return }
        group = Group(base: base, start: start, end: end)
        isWrite = isWrite || isWritten
      }
      isCertain = isCertain && !operations[index].isDirectJump
      guard let change = change(of: base, by: index) else { break }
      moved += change
    }
    return (group, isWrite)
  }

  private func isNative(_ index: Int) -> Bool { operations[index].semantic == PseudoInstructions.native }

  /// What instruction `index` adds to a register. Nil if that is not known.
  func change(of register: Int, by index: Int) -> Int64? {
    let instruction = decoded(index)
    let operands = decodedOperands(index)
    let isStack = register == GuestRegisters.rsp
    switch instruction.pointee.mnemonic {
    case ZYDIS_MNEMONIC_PUSH, ZYDIS_MNEMONIC_PUSHFQ: if isStack { return operations[index].size == 8 ? -8 : nil }
    case ZYDIS_MNEMONIC_POP: if isStack { return operations[index].size == 8 && !names(operands, register) ? 8 : nil }
    case ZYDIS_MNEMONIC_ADD, ZYDIS_MNEMONIC_SUB:
      if names(operands, register), operands[0].size == 64, operands[1].type == ZYDIS_OPERAND_TYPE_IMMEDIATE {
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

  /// Whether the operand is a part of a general register.
  private func names(_ operand: UnsafePointer<ZydisDecodedOperand>, _ register: Int) -> Bool {
    guard operand.pointee.type == ZYDIS_OPERAND_TYPE_REGISTER else { return false }
    switch ZydisRegisterGetClass(operand.pointee.reg.value) {
    case ZYDIS_REGCLASS_GPR8, ZYDIS_REGCLASS_GPR16, ZYDIS_REGCLASS_GPR32, ZYDIS_REGCLASS_GPR64:
      return Int(RegisterNumbers.number(of: operand.pointee.reg.value)) / 8 == register
    default: return false
    }
  }

  /// Calls `body` with displacement, size and kind of each access that instruction `index` makes off a base register
  /// alone.
  private func forEachAccess(of index: Int, base: Int, _ body: (Int64, Int, Bool) -> Void) {
    let instruction = decoded(index)
    let operands = decodedOperands(index)
    if base == GuestRegisters.rsp, operations[index].size == 8 {
      switch instruction.pointee.mnemonic {
      case ZYDIS_MNEMONIC_PUSH, ZYDIS_MNEMONIC_PUSHFQ, ZYDIS_MNEMONIC_CALL: body(-8, 8, true)
      case ZYDIS_MNEMONIC_POP, ZYDIS_MNEMONIC_RET: body(0, 8, false)
      default: break
      }
    }
    for place in 0..<Int(instruction.pointee.operand_count_visible)
    where operands[place].type == ZYDIS_OPERAND_TYPE_MEMORY && operands[place].mem.type == ZYDIS_MEMOP_TYPE_MEM {
      let memory = operands[place].mem
      guard memory.index == ZYDIS_REGISTER_NONE, memory.segment != ZYDIS_REGISTER_FS,
        memory.segment != ZYDIS_REGISTER_GS, instruction.pointee.address_width == 64,
        memory.base != ZYDIS_REGISTER_NONE, Int(RegisterNumbers.number(of: memory.base)) == base * 8,
        Int64(Int32(truncatingIfNeeded: memory.disp.value)) == memory.disp.value
      else { continue }
      body(memory.disp.value, Int(operands[place].size) / 8, operands[place].isWritten)
    }
  }

  /// Brings what is known of slots in line with what the current instruction has done to registers.
  mutating func moveGroups() {
    guard !readGroups.isEmpty || !writeGroups.isEmpty else { return }
    move(&readGroups)
    move(&writeGroups)
  }

  private func move(_ groups: inout [Int: Group]) {
    for (slot, group) in groups {
      if let change = change(of: group.base, by: current) {
        if change != 0 {
          groups[slot] = Group(base: group.base, start: group.start - change, end: group.end - change)
        }
      } else {
        groups[slot] = nil
      }
    }
  }
}
