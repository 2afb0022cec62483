import CHost
import CZydis
import X86

/// Arithmetic, shifts and bits, where operands alone are not all that changes.
extension BlockTranslation {
  mutating func emitPlainKeepingFlags() -> Bool {
    guard var form = form() else { return false }
    var place: HostOperand?
    switch instruction.pointee.mnemonic {
    case ZYDIS_MNEMONIC_IMUL:
      // One operand: RDX:RAX.
      if form.register == nil { return emitMultiply() }
    case ZYDIS_MNEMONIC_BT, ZYDIS_MNEMONIC_BTS, ZYDIS_MNEMONIC_BTR, ZYDIS_MNEMONIC_BTC:
      // A bit number in a register addresses memory beyond the operand.
      if form.memory != nil, form.register != nil {
        place = bitString(form)
        if place == nil { return false }
      }
    case ZYDIS_MNEMONIC_TZCNT, ZYDIS_MNEMONIC_LZCNT, ZYDIS_MNEMONIC_POPCNT: form.prefix = 0xf3
    case ZYDIS_MNEMONIC_SHLD, ZYDIS_MNEMONIC_SHRD:
      // Counts beyond 16 have no defined result for 16 bits.
      if form.size == 2 { return false }
    default: break
    }
    form.needsFlags = true
    form.needsCarryOnly = false
    // 66 comes before F3.
    if form.prefix != 0, form.size == 2 { return false }
    emit(form, rm: place)
    return true
  }

  /// The operand of BT to BTC of a bit string; nil: it is not translated. What is checked is the part of it that the number
  /// in the register leads to; what the host's instruction gets is the string's beginning and that number, so that it comes
  /// to the same part.
  private mutating func bitString(_ form: Form) -> HostOperand? {
    guard is64, let address = form.memory, address.size == 8, form.size >= 4, let number = form.register?.host else {
      return nil
    }
    let (first, second) = (GuestRegisters.first, GuestRegisters.second)
    let scale = form.size == 8 ? 3 : 2
    destroyFlags()
    computeAddress(address)
    code.store(second, .frame(FrameOffset.target))
    if form.size == 8 {
      code.move(first, number)
    } else {
      // MOVSXD.
      code.instruction(.primary, 0x63, reg: first, .register(number), size: 8)
    }
    // SAR: to parts.
    code.instruction(
      .primary, 0xc1, reg: 7, .register(first), size: 8, immediate: Int64(scale + 3), immediateSize: 1)
    code.loadAddress(second, .memory(base: second, index: first, scale: scale, displacement: 0))
    checkComputed(address, size: form.size, isWrite: form.memoryIsWritten)
    code.arithmetic(0, first, .frame(FrameOffset.target))
    code.move(second, first)
    return .memory(base: second, index: nil, scale: 0, displacement: 0)
  }

  mutating func emitIncrementDecrement() -> Bool {
    if instruction.pointee.raw.modrm.offset == 0 {
      guard let register = register(operands) else { return false }
      var form = Form(
        map: .primary, opcode: 0xff, size: operandSize,
        field: instruction.pointee.mnemonic == ZYDIS_MNEMONIC_INC ? 0 : 1)
      form.rm = register
      form.needsFlags = true
      form.needsCarryOnly = true
      form.writesFlags = true
      emit(form)
      return true
    }
    return emitPlain()
  }

  mutating func emitShift() -> Bool {
    guard var form = form() else { return false }
    let mask: Int64 = form.size == 8 ? 63 : 31
    let isByCL = form.opcode == 0xd2 || form.opcode == 0xd3
    let isByOne = form.opcode == 0xd0 || form.opcode == 0xd1
    if isByOne { form.immediate = (0, 0) }
    let count = isByOne ? 1 : form.immediate.value & mask
    if isByCL {
      // A count of zero leaves the flags alone.
      form.needsFlags = true
      form.needsCarryOnly = false
    } else if count == 0 {
      // It writes its register all the same, of which the upper half becomes zero.
      saveFlags()
      flagRecipe = nil
      form.needsFlags = false
      form.writesFlags = false
    }
    emit(form)
    return true
  }

  mutating func emitByteSwap() -> Bool {
    guard let register = register(operands), register.size >= 4 else { return false }
    let host = register.host ?? GuestRegisters.first
    let isHomeless = register.host == nil
    if isHomeless { code.load(host, GuestRegisters.home(register.guest)) }
    let rex: UInt8 = (register.size == 8 ? 0x48 : 0x40) | (host & 8 != 0 ? 1 : 0)
    code.bytes(rex, 0x0f, 0xc8 | UInt8(host & 7))
    if isHomeless { code.store(host, GuestRegisters.home(register.guest)) }
    return true
  }

  /// RAX is an operand that no field names.
  var hostOfRAX: Int { GuestRegisters.host(GuestRegisters.rax).unsafelyUnwrapped }

  mutating func emitCompareExchange() -> Bool {
    guard let form = form(), let register = form.register, let host = register.host else { return false }
    let rm: HostOperand
    if let address = form.memory {
      rm = accessInSecond(address, size: form.memorySize, isWrite: true)
    } else {
      guard let other = form.rm, let otherHost = other.host else { return false }
      // With RAX as an operand the register and the implicit one are the same.
      guard other.guest != GuestRegisters.rax else { return false }
      rm = .register(otherHost)
    }
    code.move(GuestRegisters.first, hostOfRAX)
    code.instruction(
      form.map, form.opcode, reg: host, rm, size: form.size, hasByteRegister: register.size == 1,
      isLocked: form.isLocked)
    code.move(hostOfRAX, GuestRegisters.first)
    noteFlagsWritten()
    return true
  }

  /// CMPXCHG8B and CMPXCHG16B, which change ZF and no other flag.
  mutating func emitWideCompareExchange() -> Bool {
    guard let form = form(), let address = form.memory else { return false }
    let isWide = form.memorySize == 16
    let second = GuestRegisters.second
    let place = access(address, size: form.memorySize, isWrite: true, isAligned: isWide)
    code.loadAddress(second, place)
    restoreFlags()
    code.move(GuestRegisters.first, hostOfRAX)
    code.instruction(
      form.map, form.opcode, reg: form.field, .memory(base: second, index: nil, scale: 0, displacement: 0),
      size: isWide ? 8 : 4, isLocked: form.isLocked)
    code.move(hostOfRAX, GuestRegisters.first)
    noteFlagsWritten()
    return true
  }
}
