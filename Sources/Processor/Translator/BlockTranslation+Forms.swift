import CHost
import CZydis
import X86

/// Instructions that stay what they are: their operands are found, replaced, and they are written anew.
extension BlockTranslation {
  // MARK: Operands

  /// A general register of the guest as an operand.
  struct Register {
    var guest: Int
    /// AH, CH, DH or BH: bits 8 to 15 of `guest`.
    var isHigh = false
    /// In bytes.
    var size: Int
    var isRead: Bool
    var isWritten: Bool

    /// The host register that an instruction can name in its place. Nil: it goes by way of a temporary.
    var host: Int?
  }

  /// The operand that ModRM's `reg` field or, with `encoding`, another part of the instruction names. Nil if there is
  /// none.
  func register(_ encoding: ZydisOperandEncoding) -> Register? {
    for index in 0..<Int(instruction.pointee.operand_count_visible)
    where operands[index].type == ZYDIS_OPERAND_TYPE_REGISTER && operands[index].encoding == encoding {
      return register(operands + index)
    }
    return nil
  }

  func register(_ operand: UnsafePointer<ZydisDecodedOperand>) -> Register? {
    switch ZydisRegisterGetClass(operand.pointee.reg.value) {
    case ZYDIS_REGCLASS_GPR8, ZYDIS_REGCLASS_GPR16, ZYDIS_REGCLASS_GPR32, ZYDIS_REGCLASS_GPR64: break
    default: return nil
    }
    let offset = Int(RegisterNumbers.number(of: operand.pointee.reg.value))
    guard offset < 128 else { return nil }
    let isHigh = offset & 7 == 1
    return Register(
      guest: offset / 8, isHigh: isHigh, size: Int(operand.pointee.size) / 8, isRead: operand.pointee.isRead,
      isWritten: operand.pointee.isWritten, host: isHigh ? nil : host(offset / 8))
  }

  var memoryOperand: UnsafeMutablePointer<ZydisDecodedOperand>? {
    for index in 0..<Int(instruction.pointee.operand_count_visible)
    where operands[index].type == ZYDIS_OPERAND_TYPE_MEMORY {
      return operands + index
    }
    return nil
  }

  /// The immediate, as it stands in the instruction, and its bytes.
  var immediate: (value: Int64, size: Int) {
    for index in 0..<Int(instruction.pointee.operand_count_visible)
    where operands[index].type == ZYDIS_OPERAND_TYPE_IMMEDIATE {
      let size = Int(instruction.pointee.raw.imm.0.size) / 8
      return (operands[index].imm.value.s, size)
    }
    return (0, 0)
  }

  /// In bytes.
  var operandSize: Int { Int(instruction.pointee.operand_width) / 8 }

  // MARK: Flags

  var flagsTested: UInt32 { flagsTested(by: instruction) }
  var flagsWritten: UInt32 { flagsWritten(by: instruction) }

  func flagsTested(by instruction: UnsafePointer<ZydisDecodedInstruction>) -> UInt32 {
    instruction.pointee.cpu_flags.map { $0.pointee.tested & UInt32(RFLAGS.arithmetic) } ?? 0
  }

  func flagsWritten(by instruction: UnsafePointer<ZydisDecodedInstruction>) -> UInt32 {
    instruction.pointee.cpu_flags.map {
      ($0.pointee.modified | $0.pointee.set_0 | $0.pointee.set_1 | $0.pointee.undefined)
        & UInt32(RFLAGS.arithmetic)
    } ?? 0
  }

  // MARK: The general case

  /// A host instruction like the guest's, but for its operands.
  struct Form {
    var map: OpcodeMap
    var opcode: UInt8
    var size: Int
    /// ModRM's `reg` field where it is part of the opcode.
    var field: Int
    var register: Register?
    /// ModRM's `rm` operand: a register, or memory.
    var rm: Register?
    var memory: Address?
    var memorySize = 0
    var memoryIsWritten = false
    var prefix: UInt8 = 0
    var isLocked = false
    var immediate: (value: Int64, size: Int) = (0, 0)
    var needsFlags = false
    /// Of the flags it needs the carry flag alone, and writes all others.
    var needsCarryOnly = false
    var writesFlags = false
    /// What a VEX prefix says besides ModRM's high bits.
    struct VEX {
      var isW: Bool
      var isL: Bool
      var prefix: UInt8
      /// The register in `vvvv`.
      var operand: Int
    }
    var vex: VEX?
    /// A vector register as the `rm` operand.
    var vectorRM: Int?
    /// The memory operand must be aligned to its size.
    var isAligned = false

    /// What the decoded instruction does to the flags.
    mutating func setFlags(of translation: BlockTranslation) {
      let written = translation.flagsWritten
      needsFlags = translation.flagsTested != 0 || (written != 0 && written != UInt32(RFLAGS.arithmetic))
      needsCarryOnly =
        UInt64(translation.flagsTested) & ~RFLAGS.cf == 0 && UInt64(written) | RFLAGS.cf == RFLAGS.arithmetic
      writesFlags = written != 0
    }
  }

  /// The decoded instruction's form. Nil if one of its operands cannot be replaced.
  func form() -> Form? {
    let raw = instruction.pointee.raw
    guard let map = OpcodeMap(instruction.pointee.opcode_map) else { return nil }
    var form = Form(
      map: map, opcode: instruction.pointee.opcode, size: operandSize, field: Int(raw.modrm.reg),
      isLocked: instruction.pointee.attributes & ZYDIS_ATTRIB_HAS_LOCK != 0, immediate: immediate)
    form.setFlags(of: self)
    // Outside 64-bit mode 82 is another 80.
    if map == .primary, form.opcode == 0x82 { form.opcode = 0x80 }
    if raw.modrm.offset == 0 {
      // The accumulator and an immediate: ADD to CMP, TEST.
      guard map == .primary else { return nil }
      let opcode = instruction.pointee.opcode
      if opcode < 0x40, opcode & 7 == 4 || opcode & 7 == 5 {
        form.field = Int(opcode >> 3)
        form.opcode = opcode & 1 == 0 ? 0x80 : 0x81
      } else if opcode == 0xa8 || opcode == 0xa9 {
        form.field = 0
        form.opcode = opcode == 0xa8 ? 0xf6 : 0xf7
      } else {
        return nil
      }
      guard let accumulator = register(operands) else { return nil }
      form.rm = accumulator
      return form
    }
    for index in 0..<Int(instruction.pointee.operand_count_visible) {
      let operand = operands + index
      switch operand.pointee.type {
      case ZYDIS_OPERAND_TYPE_REGISTER:
        if operand.pointee.encoding == ZYDIS_OPERAND_ENCODING_MODRM_REG {
          guard let register = register(operand) else { return nil }
          form.register = register
        } else if operand.pointee.encoding == ZYDIS_OPERAND_ENCODING_MODRM_RM {
          guard let register = register(operand) else { return nil }
          form.rm = register
        } else if operand.pointee.visibility == ZYDIS_OPERAND_VISIBILITY_EXPLICIT {
          return nil
        }
      case ZYDIS_OPERAND_TYPE_MEMORY:
        guard let address = address(of: operand) else { return nil }
        form.memory = address
        form.memorySize = Int(operand.pointee.size) / 8
        form.memoryIsWritten = operand.pointee.isWritten
      case ZYDIS_OPERAND_TYPE_IMMEDIATE: break
      default: return nil
      }
    }
    return form
  }

  mutating func emitPlain() -> Bool {
    guard let form = form() else { return false }
    emit(form)
    return true
  }

  /// Emits a form: finds the memory operand, brings registers without a host register into temporaries and back.
  mutating func emit(_ form: Form, rm place: HostOperand? = nil) {
    var rm: HostOperand
    let first = GuestRegisters.first
    let second = GuestRegisters.second
    var registerInFirst = false
    /// The temporary that holds the `rm` operand.
    var rmTemporary: Int?
    var registerNumber = form.field
    if let register = form.register {
      registerNumber = register.host ?? first
      registerInFirst = register.host == nil
    }
    if let place {
      rm = place
    } else if let address = form.memory {
      let usesFirst = registerInFirst || form.needsFlags
      rm =
        usesFirst
        ? accessInSecond(address, size: form.memorySize, isWrite: form.memoryIsWritten)
        : access(address, size: form.memorySize, isWrite: form.memoryIsWritten)
    } else if let register = form.rm {
      let temporary = registerInFirst ? second : first
      rmTemporary = register.host == nil ? temporary : nil
      rm = .register(register.host ?? temporary)
    } else if let number = form.vectorRM {
      rm = .register(number)
    } else {
      return
    }
    let carry = flagRecipe
    let carryIsInFrame = flagsAreInFrame
    if form.needsFlags, !flagsAreInHost, flagsTested == 0, flagsDie {
      flagsAreLost = true
    } else if form.needsFlags {
      if form.needsCarryOnly { restoreCarry() } else { restoreFlags() }
    }
    if let rmTemporary, let register = form.rm { bring(register, into: rmTemporary) }
    if registerInFirst, let register = form.register { bring(register, into: first) }
    if let vex = form.vex {
      code.instruction(
        form.map, form.opcode, reg: registerNumber, vex.operand, rm, isW: vex.isW, isL: vex.isL, prefix: vex.prefix,
        immediate: form.immediate.value, immediateSize: form.immediate.size)
    } else {
      code.instruction(
        form.map, form.opcode, reg: registerNumber, rm, size: form.size, prefix: form.prefix,
        hasByteRegister: form.register?.size == 1 || form.rm?.size == 1, isLocked: form.isLocked,
        immediate: form.immediate.value, immediateSize: form.immediate.size)
    }
    // XADD and XCHG write both. The sum comes last, should they be one.
    if registerInFirst, let register = form.register, register.isWritten { putBack(register, from: first) }
    if let rmTemporary, let register = form.rm, register.isWritten { putBack(register, from: rmTemporary) }
    if form.writesFlags { noteFlagsWritten(recipe(form, carry: carry, carryIsInFrame: carryIsInFrame)) }
  }

  /// Has an operand that an instruction cannot name in RAX or R11. By way of RAX; leaves the flags alone.
  private mutating func bring(_ register: Register, into temporary: Int) {
    guard register.isHigh else {
      if !isReplaced(register) { code.load(temporary, GuestRegisters.home(register.guest)) }
      return
    }
    guard register.isRead else { return }
    let first = GuestRegisters.first
    if register.guest == GuestRegisters.rax { code.load(first, .register(hostOfRAX), size: 4) }
    code.instruction(.escape0f, 0xb6, reg: first, .register(highByte(of: register.guest)), size: 4)
    if temporary != first { code.load(temporary, .register(first), size: 4) }
  }

  /// Whether the instruction gives the whole register a new value, whatever happens.
  private func isReplaced(_ register: Register) -> Bool {
    switch instruction.pointee.mnemonic {
    case ZYDIS_MNEMONIC_MOV, ZYDIS_MNEMONIC_MOVZX, ZYDIS_MNEMONIC_MOVSX, ZYDIS_MNEMONIC_MOVSXD:
      !register.isRead && register.size >= 4
    default: false
    }
  }

  /// The opposite of `bring`.
  private mutating func putBack(_ register: Register, from temporary: Int) {
    guard register.isHigh else { return code.store(temporary, GuestRegisters.home(register.guest)) }
    let first = GuestRegisters.first
    let rcx = GuestRegisters.rcx
    if temporary != first { code.load(first, .register(temporary), size: 4) }
    // R10, where RAX is, has no such byte.
    let isRAX = register.guest == GuestRegisters.rax
    if isRAX { code.exchange(rcx, hostOfRAX) }
    code.instruction(.primary, 0x88, reg: first, .register(highByte(of: isRAX ? rcx : register.guest)), size: 1)
    if isRAX { code.exchange(rcx, hostOfRAX) }
  }

  /// AH to BH, as instructions without a REX prefix name them.
  private func highByte(of register: Int) -> Int { register + 4 }
}
