import CHost
import CZydis

/// A decoded instruction with its operands replaced, so that it can run in the middle of generated code.
///
/// Vector registers become XMM1 to XMM4 by where they stand in the encoding (XMM0 stays XMM0 where it is implicit),
/// general registers RAX and R10, the memory operand [R11]. MMX and x87 registers stay as they are: the guest's are in
/// the host's unit.
struct NativeForm {
  struct VectorOperand {
    /// The host's register, 0 to 4, and the guest's, 0 to 15.
    var host: Int
    var guest: Int
    /// YMM.
    var isWide: Bool
    var isRead: Bool
    var isWritten: Bool
  }

  struct GeneralOperand {
    /// The host's register and the guest's, 0 to 15.
    var host: Int
    var guest: Int
    /// 2, 4 or 8 bytes.
    var size: Int
    var isRead: Bool
    var isWritten: Bool
  }

  private let instruction: UnsafePointer<ZydisDecodedInstruction>
  let isVEX: Bool
  private(set) var vectors: [VectorOperand] = []
  private(set) var generals: [GeneralOperand] = []
  private(set) var memory: NativeMemoryAccess?
  private(set) var traits: NativeTraits = []
  private(set) var readsFlags = false

  // Fields of the new encoding.
  private var regField: Int
  private var rmField: Int
  private var vvvvField = 0
  /// What follows ModRM, SIB and displacement.
  private var tail: [UInt8] = []

  /// Nil for an instruction that is not on the allow-list, or has an operand that cannot be replaced.
  init?(
    _ instruction: UnsafePointer<ZydisDecodedInstruction>, operands: UnsafePointer<ZydisDecodedOperand>,
    bytes: UnsafePointer<UInt8>
  ) {
    self.instruction = instruction
    let raw = instruction.pointee.raw
    isVEX = instruction.pointee.encoding == ZYDIS_INSTRUCTION_ENCODING_VEX
    regField = Int(raw.modrm.reg)
    rmField = Int(raw.modrm.rm)
    guard classify() else { return nil }
    if raw.modrm.offset != 0 {
      let start = Int(raw.modrm.offset) + 1 + (raw.sib.offset != 0 ? 1 : 0) + Int(raw.disp.size) / 8
      tail = (start..<max(start, Int(instruction.pointee.length))).map { bytes[$0] }
    }
    for index in 0..<Int(instruction.pointee.operand_count) {
      guard replace(operands + index) else { return nil }
    }
  }

  /// Looks the mnemonic up in the list that its encoding calls for.
  private mutating func classify() -> Bool {
    let mnemonic = instruction.pointee.mnemonic
    if isVEX { return NativeAllowList.allows(mnemonic, in: .vex) }
    guard instruction.pointee.encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY else { return false }
    if NativeAllowList.allows(mnemonic, in: .x87) {
      traits.formUnion([.usesX87, .waits, .movesPointers])
      return true
    }
    if NativeAllowList.allows(mnemonic, in: .x87Control) {
      traits.insert(.usesX87)
      return true
    }
    // These two make the x87 unit an MMX unit even without an MMX register operand.
    if mnemonic == ZYDIS_MNEMONIC_EMMS || mnemonic == ZYDIS_MNEMONIC_CVTPI2PS {
      traits.formUnion([.usesX87, .waits])
    }
    return NativeAllowList.allows(mnemonic, in: .legacy)
  }

  // MARK: Operands

  private mutating func replace(_ operand: UnsafePointer<ZydisDecodedOperand>) -> Bool {
    switch operand.pointee.type {
    case ZYDIS_OPERAND_TYPE_IMMEDIATE: true
    case ZYDIS_OPERAND_TYPE_REGISTER: replaceRegister(operand)
    case ZYDIS_OPERAND_TYPE_MEMORY: replaceMemory(operand)
    default: false
    }
  }

  private mutating func replaceMemory(_ operand: UnsafePointer<ZydisDecodedOperand>) -> Bool {
    let size = Int(operand.pointee.size) / 8
    guard operand.pointee.visibility == ZYDIS_OPERAND_VISIBILITY_EXPLICIT,
      operand.pointee.mem.type == ZYDIS_MEMOP_TYPE_MEM, memory == nil, (1...32).contains(size)
    else { return false }
    let isWrite = operand.pointee.isWritten
    let isAligned = NativeAllowList.needsAlignment(instruction.pointee.mnemonic, size: size, isVEX: isVEX)
    memory = NativeMemoryAccess(size: size, isWrite: isWrite, isAligned: isAligned)
    traits.memorySize = size
    if isWrite { traits.insert(.writesMemory) }
    // AMD processors do not check SHA's operand (seen on Zen 5), Intel's do: the host is not put to the test.
    if isAligned, instruction.pointee.meta.isa_set != ZYDIS_ISA_SET_SHA { traits.insert(.isAligned) }
    return true
  }

  private mutating func replaceRegister(_ operand: UnsafePointer<ZydisDecodedOperand>) -> Bool {
    let register = operand.pointee.reg.value
    switch ZydisRegisterGetClass(register) {
    case ZYDIS_REGCLASS_XMM: return replaceVector(operand, isWide: false)
    case ZYDIS_REGCLASS_YMM: return replaceVector(operand, isWide: true)
    case ZYDIS_REGCLASS_MMX:
      traits.formUnion([.usesX87, .waits])
      return true
    case ZYDIS_REGCLASS_X87: return traits.contains(.usesX87)
    case ZYDIS_REGCLASS_GPR16, ZYDIS_REGCLASS_GPR32, ZYDIS_REGCLASS_GPR64: return replaceGeneral(operand)
    case ZYDIS_REGCLASS_FLAGS:
      if operand.pointee.isRead { readsFlags = true }
      if operand.pointee.isWritten { traits.insert(.writesFlags) }
      return true
    default:
      switch register {
      case ZYDIS_REGISTER_X87CONTROL, ZYDIS_REGISTER_X87STATUS, ZYDIS_REGISTER_X87TAG, ZYDIS_REGISTER_MXCSR: return true
      default: return false
      }
    }
  }

  private mutating func replaceVector(_ operand: UnsafePointer<ZydisDecodedOperand>, isWide: Bool) -> Bool {
    let guest = Int(ZydisRegisterGetId(operand.pointee.reg.value))
    guard (0..<16).contains(guest) else { return false }
    let host: Int
    switch operand.pointee.encoding {
    case ZYDIS_OPERAND_ENCODING_MODRM_REG:
      host = 1
      regField = host
    case ZYDIS_OPERAND_ENCODING_MODRM_RM:
      host = 2
      rmField = host
    case ZYDIS_OPERAND_ENCODING_NDSNDD:
      host = 3
      vvvvField = host
    case ZYDIS_OPERAND_ENCODING_IS4:
      guard let last = tail.last else { return false }
      host = 4
      tail[tail.count - 1] = last & 0x0f | UInt8(host) << 4
    case ZYDIS_OPERAND_ENCODING_NONE where guest == 0: host = 0
    default: return false
    }
    // Without VEX prefix what is not written of a destination stays: it is part of what goes in.
    vectors.append(
      VectorOperand(
        host: host, guest: guest, isWide: isWide,
        isRead: !isVEX || operand.pointee.isRead || operand.pointee.isWrittenConditionally,
        isWritten: operand.pointee.isWritten))
    return true
  }

  private mutating func replaceGeneral(_ operand: UnsafePointer<ZydisDecodedOperand>) -> Bool {
    let guest = Int(ZydisRegisterGetId(operand.pointee.reg.value))
    let host: Int
    switch operand.pointee.encoding {
    case ZYDIS_OPERAND_ENCODING_MODRM_REG:
      host = 0
      regField = host
    case ZYDIS_OPERAND_ENCODING_MODRM_RM:
      host = 10
      rmField = host
    case ZYDIS_OPERAND_ENCODING_NONE:
      // Implicit: EAX, ECX, EDX of the string comparisons, AX of FNSTSW.
      let mnemonic = instruction.pointee.mnemonic
      guard
        (NativeAllowList.comparesStrings(mnemonic) && guest <= 2) || (mnemonic == ZYDIS_MNEMONIC_FNSTSW && guest == 0)
      else { return false }
      host = guest
    default: return false
    }
    generals.append(
      GeneralOperand(
        host: host, guest: guest, size: Int(operand.pointee.size) / 8, isRead: operand.pointee.isRead,
        isWritten: operand.pointee.isWritten))
    return true
  }

  /// Whether any operand is a YMM register.
  var isWide: Bool { vectors.contains { $0.isWide } }

  /// The 11 bits of the x87 opcode register.
  var x87Opcode: UInt16 {
    let modrm = instruction.pointee.raw.modrm
    return UInt16(instruction.pointee.opcode & 7) << 8 | UInt16(modrm.mod << 6 | modrm.reg << 3 | modrm.rm)
  }

  // MARK: Encoding

  /// Writes the instruction with its new operands.
  func emit(into code: inout NativeAssembler) {
    isVEX ? emitVEX(into: &code) : emitLegacy(into: &code)
  }

  /// REX.W or VEX.W. Outside 64-bit mode it has no effect on the size of general registers and of what stands in for
  /// one in memory, so it must be clear here.
  private var isW: Bool {
    let raw = instruction.pointee.raw
    guard instruction.pointee.machine_mode != ZYDIS_MACHINE_MODE_LONG_64 else {
      return isVEX ? raw.vex.W != 0 : raw.rex.W != 0
    }
    guard isVEX, raw.vex.W != 0 else { return false }
    switch (raw.vex.m_mmmm, instruction.pointee.opcode) {
    case (1, 0x2a), (1, 0x2c), (1, 0x2d), (1, 0x6e), (3, 0x14...0x17), (3, 0x20), (3, 0x22),
      (3, 0x60...0x61):
      return false
    case (1, 0x7e): return raw.vex.pp != 1
    default: return true
    }
  }

  private func emitModRM(into code: inout NativeAssembler) {
    let modrm = instruction.pointee.raw.modrm
    // [R11] has the base's low bits 3 and no displacement.
    let rm = memory != nil ? 0x03 : 0xc0 | rmField & 7
    if modrm.offset != 0 { code.emit(UInt8(rm | (regField & 7) << 3)) }
    code.append(tail)
  }

  private func emitLegacy(into code: inout NativeAssembler) {
    // x87 instructions ignore all prefixes.
    let isX87 = instruction.pointee.opcode_map == ZYDIS_OPCODE_MAP_DEFAULT
    if !isX87, let prefix = instruction.pointee.mandatoryPrefix { code.emit(prefix) }
    let rex =
      0x40 | (isW && !isX87 ? 8 : 0) | (regField >= 8 ? 4 : 0) | (memory != nil || rmField >= 8 ? 1 : 0)
    if rex != 0x40 { code.emit(UInt8(rex)) }
    switch instruction.pointee.opcode_map {
    case ZYDIS_OPCODE_MAP_0F: code.emit(0x0f)
    case ZYDIS_OPCODE_MAP_0F38: code.emit(0x0f, 0x38)
    case ZYDIS_OPCODE_MAP_0F3A: code.emit(0x0f, 0x3a)
    default: break
    }
    code.emit(instruction.pointee.opcode)
    emitModRM(into: &code)
  }

  private func emitVEX(into code: inout NativeAssembler) {
    let raw = instruction.pointee.raw
    let isBaseHigh = memory != nil || rmField >= 8
    code.emit(
      0xc4, 0xc0 | (isBaseHigh ? 0 : 0x20) | UInt8(raw.vex.m_mmmm),
      (isW ? 0x80 : 0) | UInt8(~vvvvField & 15) << 3 | UInt8(raw.vex.L) << 2 | UInt8(raw.vex.pp),
      instruction.pointee.opcode)
    emitModRM(into: &code)
  }
}

extension ZydisDecodedInstruction {
  /// The prefix that is a part of the opcode.
  var mandatoryPrefix: UInt8? {
    withUnsafeBytes(of: raw.prefixes) { bytes in
      bytes.bindMemory(to: ZydisDecodedInstructionRawPrefixes_.self).prefix(Int(raw.prefix_count))
        .first { $0.type == ZYDIS_PREFIX_TYPE_MANDATORY }?.value
    }
  }
}

extension ZydisDecodedOperand {
  var isRead: Bool { actions & 5 != 0 }
  var isWritten: Bool { actions & 10 != 0 }
  var isWrittenConditionally: Bool { actions & 8 != 0 }
}
