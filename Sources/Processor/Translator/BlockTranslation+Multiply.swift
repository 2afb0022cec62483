import CHost
import CZydis
import X86

/// Multiplication, division, and the sign extensions that come before it.
extension BlockTranslation {
  mutating func emitMultiply() -> Bool {
    guard let form = form(), form.register == nil else { return false }
    var rm: HostOperand
    if let address = form.memory {
      rm = accessInSecond(address, size: form.memorySize, isWrite: false)
    } else if let register = form.rm, !register.isHigh {
      rm = register.host.map { .register($0) } ?? GuestRegisters.home(register.guest)
    } else {
      return false
    }
    restoreFlags()
    code.move(GuestRegisters.first, hostOfRAX)
    code.instruction(
      form.map, form.opcode, reg: form.field, rm, size: form.size, hasByteRegister: form.rm?.size == 1)
    code.move(hostOfRAX, GuestRegisters.first)
    noteFlagsWritten()
    return true
  }

  /// The chain gets what would fault, and what only might.
  mutating func emitDivide(isSigned: Bool) -> Bool {
    // AX holds what a byte divides, and what comes of it.
    guard let form = form(), form.register == nil, form.size >= 2 else { return false }
    let first = GuestRegisters.first
    let rm: HostOperand
    if let address = form.memory {
      // Loaded once: another processor may change memory between the tests and the division.
      let place = access(address, size: form.memorySize, isWrite: false)
      code.load(GuestRegisters.second, place, size: form.size)
      rm = .register(GuestRegisters.second)
    } else if let register = form.rm {
      rm = register.host.map { .register($0) } ?? GuestRegisters.home(register.guest)
    } else {
      return false
    }
    // The host keeps some of the flags.
    destroyFlags()
    if isSigned {
      // A dividend that is only as wide as the divisor, and a divisor that is neither 0 nor -1.
      code.load(first, .register(hostOfRAX), size: form.size)
      code.instruction(
        .primary, 0xc1, reg: 7, .register(first), size: form.size, immediate: Int64(form.size * 8 - 1), immediateSize: 1
      )
      code.arithmetic(7, first, .register(HostRegister.rdx), size: form.size)
      leave(if: HostCondition.notZero)
      code.load(first, rm, size: form.size)
      code.arithmetic(0, .register(first), immediate: 1, size: form.size)
      code.arithmetic(7, .register(first), immediate: 1, size: form.size)
      leave(if: HostCondition.belowOrEqual)
    } else {
      code.arithmetic(7, HostRegister.rdx, rm, size: form.size)
      leave(if: HostCondition.aboveOrEqual)
    }
    restoreFlags()
    code.move(first, hostOfRAX)
    code.instruction(form.map, form.opcode, reg: form.field, rm, size: form.size)
    code.move(hostOfRAX, first)
    noteFlagsWritten()
    return true
  }

  mutating func emitSignExtend() -> Bool {
    let rax = hostOfRAX
    switch instruction.pointee.mnemonic {
    case ZYDIS_MNEMONIC_CDQE: code.instruction(.primary, 0x63, reg: rax, .register(rax), size: 8)
    case ZYDIS_MNEMONIC_CWDE: code.instruction(.escape0f, 0xbf, reg: rax, .register(rax), size: 4)
    case ZYDIS_MNEMONIC_CBW:
      code.instruction(.escape0f, 0xbe, reg: rax, .register(rax), size: 2, hasByteRegister: true)
    default:
      code.move(GuestRegisters.first, rax)
      if instruction.pointee.mnemonic == ZYDIS_MNEMONIC_CQO { code.byte(0x48) }
      if instruction.pointee.mnemonic == ZYDIS_MNEMONIC_CWD { code.byte(0x66) }
      code.byte(0x99)
    }
    return true
  }
}
