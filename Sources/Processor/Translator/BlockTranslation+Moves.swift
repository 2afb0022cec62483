import CHost
import CZydis
import X86

/// MOV of general registers, XCHG and LEA.
extension BlockTranslation {
  mutating func emitMove() -> Bool {
    if instruction.pointee.raw.modrm.offset != 0 {
      guard instruction.pointee.opcode_map == ZYDIS_OPCODE_MAP_DEFAULT else { return false }
      switch instruction.pointee.opcode {
      case 0x8c: return emitSelectorRead()
      case 0x8e: return emitSegmentMove()
      default: return emitPlain()
      }
    }
    let opcode = instruction.pointee.opcode
    if (0xb0...0xbf).contains(opcode) {
      guard let register = register(operands) else { return false }
      let value = operands[1].imm.value.s
      let size = register.size
      if size < 4 {
        var form = Form(map: .primary, opcode: size == 1 ? 0xc6 : 0xc7, size: size, field: 0)
        form.rm = register
        form.immediate = (value, size)
        emit(form)
        return true
      }
      let destination = register.host ?? GuestRegisters.first
      if size == 8 {
        code.loadConstant(destination, UInt64(bitPattern: value))
      } else {
        if destination & 8 != 0 { code.byte(0x41) }
        code.byte(0xb8 | UInt8(destination & 7))
        code.word32(Int32(truncatingIfNeeded: value))
      }
      if register.host == nil { code.store(destination, GuestRegisters.home(register.guest)) }
      return true
    }
    guard (0xa0...0xa3).contains(opcode), let memory = memoryOperand, let address = address(of: memory) else {
      return false
    }
    // The accumulator and an absolute address.
    let isStore = opcode >= 0xa2
    guard let register = register(operands + (isStore ? 1 : 0)) else { return false }
    var form = Form(
      map: .primary, opcode: (isStore ? 0x88 : 0x8a) | (register.size == 1 ? 0 : 1), size: register.size, field: 0)
    form.register = register
    form.memory = address
    form.memorySize = register.size
    form.memoryIsWritten = isStore
    emit(form)
    return true
  }

  mutating func emitExchange() -> Bool {
    if instruction.pointee.raw.modrm.offset != 0 { return emitPlain() }
    guard let one = register(operands), let other = register(operands + 1) else { return false }
    var form = Form(map: .primary, opcode: 0x87, size: operandSize, field: 0)
    form.register = one
    form.rm = other
    emit(form)
    return true
  }

  mutating func emitLoadAddress() -> Bool {
    guard let destination = register(ZYDIS_OPERAND_ENCODING_MODRM_REG), let memory = memoryOperand,
      var address = address(of: memory)
    else { return false }
    address.segment = nil
    let second = GuestRegisters.second
    let host = destination.host
    // In place where base and index have host registers and nothing is cut off that has to be cleared.
    if let host, !address.isRelative, destination.size <= address.size || address.size > 2, let base = address.base,
      let hostBase = self.host(base),
      address.index.map({ self.host($0) != nil }) ?? true
    {
      let index = address.index.flatMap { self.host($0) }
      code.loadAddress(
        host, .memory(base: hostBase, index: index, scale: address.scale, displacement: address.displacement),
        size: min(destination.size, address.size))
      return true
    }
    computeAddress(address)
    let target = host ?? second
    if destination.size == 4 || host != nil { code.load(target, .register(second), size: destination.size) }
    if host == nil {
      code.store(second, GuestRegisters.home(destination.guest), size: destination.size == 2 ? 2 : 8)
    }
    return true
  }
}
