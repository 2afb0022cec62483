import CHost
import CZydis
import X86

/// SSE and AVX instructions, and general ones with VEX encoding.
///
/// The guest's vector registers are in their namesakes from the first vector instruction on until translated code is left
/// (`TranslationFrame.vectorsAreLoaded`), so only memory and general registers are replaced. They are not brought in while
/// a SIMD exception is unmasked in MXCSR: then the chain runs these instructions.
extension BlockTranslation {
  /// An instruction of the native unit.
  mutating func emitVector() -> Bool {
    if NativeTraits(rawValue: op.detail).contains(.movesPointers) { return emitX87() }
    guard var form = vectorForm() else { return false }
    guard !hasOtherOperands else { return false }
    // There is none that reads flags.
    guard !form.isAligned || !form.needsFlags else { return false }
    loadVectors()
    if let address = form.memory, form.isAligned {
      form.isAligned = false
      emit(
        form, rm: access(address, size: form.memorySize, isWrite: form.memoryIsWritten, isAligned: true))
    } else {
      emit(form)
    }
    return true
  }

  /// An instruction on general registers with VEX encoding.
  mutating func emitGeneralVEX() -> Bool {
    guard instruction.pointee.encoding == ZYDIS_INSTRUCTION_ENCODING_VEX,
      Self.generalVEX.contains(instruction.pointee.mnemonic.rawValue), let form = vectorForm()
    else { return false }
    emit(form)
    return true
  }

  private static let generalVEX: Set<UInt32> = Set(
    [
      ZYDIS_MNEMONIC_ANDN, ZYDIS_MNEMONIC_BEXTR, ZYDIS_MNEMONIC_BLSI, ZYDIS_MNEMONIC_BLSMSK, ZYDIS_MNEMONIC_BLSR,
      ZYDIS_MNEMONIC_BZHI, ZYDIS_MNEMONIC_MULX, ZYDIS_MNEMONIC_PDEP, ZYDIS_MNEMONIC_PEXT, ZYDIS_MNEMONIC_RORX,
      ZYDIS_MNEMONIC_SARX, ZYDIS_MNEMONIC_SHLX, ZYDIS_MNEMONIC_SHRX,
    ].map(\.rawValue))

  /// Accesses that depend on data; and CVTPI2PS, which looks at the x87 unit even where its operand is in memory.
  private static let excluded: Set<UInt32> = Set(
    MaskedMoves.rows.map(\.mnemonic.rawValue) + [ZYDIS_MNEMONIC_CVTPI2PS.rawValue])

  /// The form of an instruction of which vector registers stay as they are.
  private func vectorForm() -> Form? {
    let raw = instruction.pointee.raw
    let isVEX = instruction.pointee.encoding == ZYDIS_INSTRUCTION_ENCODING_VEX
    guard isVEX || instruction.pointee.encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY, raw.modrm.offset != 0,
      NativeFeatures.hostRuns(instruction.pointee.meta.isa_set) || op.semantic != PseudoInstructions.native,
      !Self.excluded.contains(instruction.pointee.mnemonic.rawValue)
    else { return nil }
    guard let map = OpcodeMap(instruction.pointee.opcode_map), map != .primary else { return nil }
    var form = Form(map: map, opcode: instruction.pointee.opcode, size: 4, field: Int(raw.modrm.reg))
    form.setFlags(of: self)
    if isVEX {
      // Outside 64-bit mode W does not widen general registers and what stands in for one in memory, as it would here;
      // and a register in an immediate has three bits.
      guard is64 || (raw.vex.W == 0 && !hasRegisterInImmediate) else { return nil }
      form.vex = Form.VEX(isW: raw.vex.W != 0, isL: raw.vex.L != 0, prefix: UInt8(raw.vex.pp), operand: 0)
    } else {
      form.size = raw.rex.W != 0 ? 8 : 4
      form.prefix = instruction.pointee.mandatoryPrefix ?? 0
    }
    let start = Int(raw.modrm.offset) + 1 + (raw.sib.offset != 0 ? 1 : 0) + Int(raw.disp.size) / 8
    let rest = Int(instruction.pointee.length) - start
    if rest > 0 {
      guard rest == 1 else { return nil }
      // An immediate, or a register in one.
      form.immediate = (Int64(lastByte), 1)
    }
    for index in 0..<Int(instruction.pointee.operand_count_visible) {
      guard add(operands + index, to: &form) else { return nil }
    }
    return form
  }

  private func add(_ operand: UnsafePointer<ZydisDecodedOperand>, to form: inout Form) -> Bool {
    switch operand.pointee.type {
    case ZYDIS_OPERAND_TYPE_IMMEDIATE: return true
    case ZYDIS_OPERAND_TYPE_MEMORY:
      let size = Int(operand.pointee.size) / 8
      guard operand.pointee.mem.type == ZYDIS_MEMOP_TYPE_MEM, (1...32).contains(size),
        let address = address(of: operand)
      else { return false }
      form.memory = address
      form.memorySize = size
      form.memoryIsWritten = operand.pointee.isWritten
      form.isAligned = NativeAllowList.needsAlignment(
        instruction.pointee.mnemonic, size: size, isVEX: form.vex != nil)
      return true
    case ZYDIS_OPERAND_TYPE_REGISTER: break
    default: return false
    }
    let number = Int(ZydisRegisterGetId(operand.pointee.reg.value))
    switch ZydisRegisterGetClass(operand.pointee.reg.value) {
    case ZYDIS_REGCLASS_XMM, ZYDIS_REGCLASS_YMM:
      switch operand.pointee.encoding {
      case ZYDIS_OPERAND_ENCODING_MODRM_REG: form.field = number
      case ZYDIS_OPERAND_ENCODING_MODRM_RM: form.vectorRM = number
      case ZYDIS_OPERAND_ENCODING_NDSNDD: form.vex?.operand = number
      case ZYDIS_OPERAND_ENCODING_IS4: break
      default: return operand.pointee.visibility != ZYDIS_OPERAND_VISIBILITY_EXPLICIT || number == 0
      }
      return true
    case ZYDIS_REGCLASS_GPR32, ZYDIS_REGCLASS_GPR64:
      guard let register = register(operand) else { return false }
      switch operand.pointee.encoding {
      case ZYDIS_OPERAND_ENCODING_MODRM_REG: form.register = register
      case ZYDIS_OPERAND_ENCODING_MODRM_RM: form.rm = register
      case ZYDIS_OPERAND_ENCODING_NDSNDD:
        guard let host = register.host else { return false }
        form.vex?.operand = host
      default: return false
      }
      return true
    default: return false
    }
  }

  /// Whether the instruction has hidden operands that are not where the host's instruction would look for them.
  private var hasOtherOperands: Bool {
    for index in Int(instruction.pointee.operand_count_visible)..<Int(instruction.pointee.operand_count)
    where operands[index].type == ZYDIS_OPERAND_TYPE_REGISTER {
      switch ZydisRegisterGetClass(operands[index].reg.value) {
      case ZYDIS_REGCLASS_GPR32, ZYDIS_REGCLASS_GPR64:
        guard let register = register(operands + index), register.host == register.guest else {
          return true
        }
      case ZYDIS_REGCLASS_MMX, ZYDIS_REGCLASS_X87: return true
      default: break
      }
    }
    return false
  }

  private var hasRegisterInImmediate: Bool {
    (0..<Int(instruction.pointee.operand_count_visible)).contains {
      operands[$0].encoding == ZYDIS_OPERAND_ENCODING_IS4
    }
  }

  private var lastByte: UInt8 { bytes[Int(op.offset) + Int(op.length) - 1] }

  // MARK: Registers

  /// Has the guest's vector registers in the host's.
  mutating func loadVectors() {
    guard !vectorsAreReady else { return }
    destroyFlags()
    code.instruction(
      .primary, 0x80, reg: 7, .frame(FrameOffset.vectorsAreLoaded), size: 1, immediate: 0, immediateSize: 1)
    let areMissing = code.jump(if: HostCondition.zero)
    cold.append(.loadVectors(areMissing, flagSource, back: code.position, operation: current))
    vectorsAreReady = true
  }
}
