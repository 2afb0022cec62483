import CHost
import CZydis
import X86

/// Turns guest code bytes into `Operation`s, one instruction at a time.
///
/// Zydis knows encodings; this class knows how the engine wants them: operands as byte offsets, memory operands as one
/// address formula, branch targets relative to the block. What an instruction does is then looked up in this order: a
/// chain handler for its shape, the native unit for vector and x87 instructions, the row of its mnemonic.
final class InstructionDecoder {
  /// Why no instruction came out.
  enum Failure {
    /// More bytes are needed than there are.
    case truncated
    /// #UD.
    case invalid
    /// Longer than 15 bytes: #GP(0).
    case tooLong
  }

  private let decoders: UnsafeMutablePointer<ZydisDecoder>
  let instruction: UnsafeMutablePointer<ZydisDecodedInstruction>
  let operands: UnsafeMutablePointer<ZydisDecodedOperand>
  private let operandCapacity = Int(ZYDIS_MAX_OPERAND_COUNT)

  /// Index of `decoders` by code mode.
  private enum Machine: Int, CaseIterable {
    case real16, protected16, protected32, long64
  }

  /// - Parameter model: what encodings mean that its processor knows only the older meaning of, such as LZCNT's.
  init(_ model: CPUModel = .standard) {
    decoders = .allocate(capacity: Machine.allCases.count)
    instruction = .allocate(capacity: 1)
    operands = .allocate(capacity: operandCapacity)
    let modes: [(ZydisMachineMode, ZydisStackWidth)] = [
      (ZYDIS_MACHINE_MODE_REAL_16, ZYDIS_STACK_WIDTH_16), (ZYDIS_MACHINE_MODE_LEGACY_16, ZYDIS_STACK_WIDTH_16),
      (ZYDIS_MACHINE_MODE_LEGACY_32, ZYDIS_STACK_WIDTH_32), (ZYDIS_MACHINE_MODE_LONG_64, ZYDIS_STACK_WIDTH_64),
    ]
    for (index, mode) in modes.enumerated() {
      let status = ZydisDecoderInit(decoders + index, mode.0, mode.1)
      precondition(status & 0x8000_0000 == 0, "Zydis refuses a machine mode")
      let switches: [(ZydisDecoderMode, Bool)] = [
        // Without these features the encodings are BSR, BSF and WBINVD.
        (ZYDIS_DECODER_MODE_LZCNT, model.features.contains(.lzcnt)),
        (ZYDIS_DECODER_MODE_TZCNT, model.features.contains(.bmi1)),
        (ZYDIS_DECODER_MODE_WBNOINVD, model.features.contains(.wbnoinvd)),
        // A 66 prefix makes near branches of 64-bit code 16 bits wide, which Intel's processors ignore.
        (ZYDIS_DECODER_MODE_AMD_BRANCHES, model.vendor == .amd),
      ]
      for (feature, isEnabled) in switches {
        let status = ZydisDecoderEnableMode(decoders + index, feature, isEnabled ? 1 : 0)
        precondition(status & 0x8000_0000 == 0, "Zydis refuses a decoder mode")
      }
    }
  }

  deinit {
    decoders.deallocate()
    instruction.deallocate()
    operands.deallocate()
  }

  /// Decodes the instruction at `bytes` into `instruction` and `operands`.
  func decode(_ bytes: UnsafePointer<UInt8>, count: Int, mode: CodeMode) -> Failure? {
    let machine: Machine =
      mode.contains(.code64)
      ? .long64 : mode.contains(.code32) ? .protected32 : mode.contains(.paragraphs) ? .real16 : .protected16
    let status = ZydisDecoderDecodeFull(
      decoders + machine.rawValue, bytes, ZyanUSize(min(count, 15)), instruction, operands)
    guard status & 0x8000_0000 != 0 else { return nil }
    switch status & 0xfffff {
    case Self.noMoreData: return count >= 15 ? .tooLong : .truncated
    case Self.instructionTooLong: return .tooLong
    default: return .invalid
    }
  }

  /// Codes of ZYDIS_STATUS_NO_MORE_DATA and ZYDIS_STATUS_INSTRUCTION_TOO_LONG within Zydis's module (Status.h); the
  /// macros do not import.
  private static let noMoreData: UInt32 = 0
  private static let instructionTooLong: UInt32 = 2

  // MARK: Operands

  /// An operation that stands for no decoded instruction: runs a pseudo row.
  func placeholder(_ row: UInt16, offset: Int, number: Int) -> Operation {
    var op = blank(offset: offset, number: number)
    op.semantic = row
    return op
  }

  private func blank(offset: Int, number: Int) -> Operation {
    Operation(
      handler: Chain.semanticHandler, immediate: 0, addressMask: ~0, displacement: 0, destination: Operation.absent,
      source: Operation.absent, base: Operation.absent, index: Operation.absent, scale: 0,
      segment: Operation.absent, length: 1, size: 0, segmentRegister: UInt8(SegmentRegister.ds.rawValue),
      number: UInt8(truncatingIfNeeded: number), flags: 0, offset: UInt16(truncatingIfNeeded: offset), semantic: 0,
      detail: 0, sourceSize: 0, third: Operation.absent, link: nil)
  }

  /// The execution unit that the decoded instruction needs, of those that can be disabled.
  var unit: ExecutionUnit? {
    let meta = instruction.pointee.meta
    // WAIT looks at CR0 itself.
    if instruction.pointee.mnemonic == ZYDIS_MNEMONIC_FWAIT { return nil }
    if instruction.pointee.mnemonic == ZYDIS_MNEMONIC_EMMS { return .mmx }
    if meta.isa_ext == ZYDIS_ISA_EXT_X87 { return .x87 }
    if meta.isa_ext == ZYDIS_ISA_EXT_AVX || meta.isa_ext == ZYDIS_ISA_EXT_AVX2 || meta.isa_ext == ZYDIS_ISA_EXT_FMA {
      return .avx
    }
    if instruction.pointee.mnemonic == ZYDIS_MNEMONIC_LDMXCSR || instruction.pointee.mnemonic == ZYDIS_MNEMONIC_STMXCSR
    {
      return .sse
    }
    let isVEX = instruction.pointee.encoding == ZYDIS_INSTRUCTION_ENCODING_VEX
    // CVTSS2SI and its kin may have no vector operand.
    let isScalarConversion =
      meta.category == ZYDIS_CATEGORY_CONVERT
      && (meta.isa_set == ZYDIS_ISA_SET_SSE || meta.isa_set == ZYDIS_ISA_SET_SSE2)
    var unit: ExecutionUnit? = isScalarConversion ? .sse : nil
    for index in 0..<Int(instruction.pointee.operand_count) {
      let operand = operands + index
      guard operand.pointee.type == ZYDIS_OPERAND_TYPE_REGISTER else { continue }
      switch ZydisRegisterGetClass(operand.pointee.reg.value) {
      case ZYDIS_REGCLASS_XMM, ZYDIS_REGCLASS_YMM: return isVEX ? .avx : .sse
      case ZYDIS_REGCLASS_MMX: unit = .mmx
      case ZYDIS_REGCLASS_X87: unit = .x87
      default: break
      }
    }
    return unit
  }

  /// The operation of the decoded instruction, without handler, row and link. `offset` is its place in the block.
  func operands(offset: Int, number: Int) -> Operation {
    var op = blank(offset: offset, number: number)
    op.length = instruction.pointee.length
    op.size = UInt8(truncatingIfNeeded: instruction.pointee.operand_width / 8)
    let attributes = instruction.pointee.attributes
    if attributes & ZYDIS_ATTRIB_HAS_LOCK != 0 { op.flags |= OperationFlags.lock.rawValue }
    if attributes & (ZYDIS_ATTRIB_HAS_REP | ZYDIS_ATTRIB_HAS_REPE) != 0 { op.flags |= OperationFlags.rep.rawValue }
    if attributes & ZYDIS_ATTRIB_HAS_REPNE != 0 { op.flags |= OperationFlags.repNE.rawValue }
    op.addressMask =
      switch instruction.pointee.address_width {
      case 64: ~0
      case 32: 0xffff_ffff
      default: 0xffff
      }
    for index in 0..<Int(instruction.pointee.operand_count_visible) {
      let operand = operands + index
      switch operand.pointee.type {
      case ZYDIS_OPERAND_TYPE_REGISTER: setRegister(&op, operand, index)
      case ZYDIS_OPERAND_TYPE_MEMORY: setMemory(&op, operand, index)
      case ZYDIS_OPERAND_TYPE_IMMEDIATE: setImmediate(&op, operand, index)
      default:
        // A far pointer.
        op.immediate = UInt64(operand.pointee.ptr.offset)
        op.detail = operand.pointee.ptr.segment
      }
      if index == 0, operand.pointee.type != ZYDIS_OPERAND_TYPE_IMMEDIATE { op.size = byteCount(operand) }
      if index == 1 { op.sourceSize = byteCount(operand) }
    }
    for index in Int(instruction.pointee.operand_count_visible)..<Int(instruction.pointee.operand_count)
    where operands[index].type == ZYDIS_OPERAND_TYPE_MEMORY {
      setHiddenMemory(&op, operands + index)
    }
    if instruction.pointee.operand_count_visible < 2 {
      op.sourceSize = UInt8(truncatingIfNeeded: instruction.pointee.operand_width / 8)
    }
    if instruction.pointee.meta.branch_type == ZYDIS_BRANCH_TYPE_FAR {
      op.third = Operation.farMark
      op.size = UInt8(truncatingIfNeeded: instruction.pointee.operand_width / 8)
    } else if instruction.pointee.meta.branch_type != ZYDIS_BRANCH_TYPE_NONE {
      op.size = UInt8(truncatingIfNeeded: instruction.pointee.operand_width / 8)
    }
    if let code = ConditionCode.code(of: instruction.pointee.mnemonic) { op.detail = code }
    return op
  }

  private func byteCount(_ operand: UnsafePointer<ZydisDecodedOperand>) -> UInt8 {
    UInt8(truncatingIfNeeded: operand.pointee.size / 8)
  }

  private func setRegister(_ op: inout Operation, _ operand: UnsafePointer<ZydisDecodedOperand>, _ index: Int) {
    let number = RegisterNumbers.number(of: operand.pointee.reg.value)
    switch index {
    case 0: op.destination = number
    case 1: op.source = number
    case 2: op.third = number
    default: break
    }
    switch ZydisRegisterGetClass(operand.pointee.reg.value) {
    case ZYDIS_REGCLASS_SEGMENT: op.third = Operation.segmentMark
    case ZYDIS_REGCLASS_CONTROL: op.third = Operation.controlMark
    case ZYDIS_REGCLASS_DEBUG: op.third = Operation.debugMark
    default: return
    }
    op.detail = UInt16(truncatingIfNeeded: index)
  }

  private func setImmediate(_ op: inout Operation, _ operand: UnsafePointer<ZydisDecodedOperand>, _ index: Int) {
    let value = operand.pointee.imm.value.u
    switch index {
    case 0:
      op.flags |= OperationFlags.immediateFirst.rawValue
      op.immediate = value
    case 1:
      op.flags |= OperationFlags.immediateSource.rawValue
      // ENTER's first operand stays in `immediate`.
      if op.flags & OperationFlags.immediateFirst.rawValue != 0 {
        op.detail = UInt16(truncatingIfNeeded: value)
        return
      }
      op.immediate = value
    default:
      op.flags |= OperationFlags.immediateThird.rawValue
      op.immediate = value
    }
    if operand.pointee.imm.is_relative != 0 {
      op.immediate = UInt64(op.offset) &+ UInt64(op.length) &+ value
      op.flags |= OperationFlags.relative.rawValue
    } else if operand.pointee.imm.is_signed == 0, index > 0 || instruction.pointee.mnemonic == ZYDIS_MNEMONIC_PUSH {
      // Sign-extended from the operand's size, as the arithmetic family wants it.
      let shift = UInt64(64 - max(8, min(64, Int(operand.pointee.size))))
      op.immediate = UInt64(bitPattern: Int64(bitPattern: value &<< shift) &>> Int64(shift))
    }
  }

  /// The source of string instructions and XLAT, whose segment can be overridden, and the stack.
  private func setHiddenMemory(_ op: inout Operation, _ operand: UnsafePointer<ZydisDecodedOperand>) {
    let base = RegisterNumbers.number(of: operand.pointee.mem.base)
    let segment = RegisterNumbers.number(of: operand.pointee.mem.segment)
    let isMemoryOperandOther =
      op.flags & (OperationFlags.memoryFirst.rawValue | OperationFlags.memorySource.rawValue) != 0
    // RBX, RSP and RSI by their offsets.
    guard base == 24 || base == 32 || base == 48, segment < 6, !isMemoryOperandOther else { return }
    op.segmentRegister = segment
  }

  /// Segment, base register and displacement of a memory operand, where Zydis 4.0 sees others: SIB's base 5 under mod 0
  /// means a displacement and no base, whatever REX.B says (not R13D when addresses have 32 bits); prefix 3E of an
  /// indirect CALL or JMP says NOTRACK (SDM vol. 1, "No-Track Prefix for Near Indirect CALL/JMP"), and outside 64-bit
  /// mode DS too.
  func place(
    of operand: UnsafePointer<ZydisDecodedOperand>, in instruction: UnsafePointer<ZydisDecodedInstruction>
  ) -> (segment: ZydisRegister, base: ZydisRegister, displacement: Int64) {
    let raw = instruction.pointee.raw
    let memory = operand.pointee.mem
    let isDS =
      instruction.pointee.attributes & ZYDIS_ATTRIB_HAS_NOTRACK != 0
      && instruction.pointee.machine_mode != ZYDIS_MACHINE_MODE_LONG_64
    let hasNoBase = raw.sib.offset != 0 && raw.sib.base == 5 && raw.modrm.mod == 0
    return (
      isDS ? ZYDIS_REGISTER_DS : memory.segment, hasNoBase ? ZYDIS_REGISTER_NONE : memory.base,
      hasNoBase ? raw.disp.value : memory.disp.value
    )
  }

  private func setMemory(_ op: inout Operation, _ operand: UnsafePointer<ZydisDecodedOperand>, _ index: Int) {
    op.flags |= (index == 0 ? OperationFlags.memoryFirst : OperationFlags.memorySource).rawValue
    let memory = operand.pointee.mem
    let place = place(of: operand, in: instruction)
    let segment = RegisterNumbers.number(of: place.segment)
    if segment < 6 { op.segmentRegister = segment }
    op.base = RegisterNumbers.number(of: place.base)
    op.index = RegisterNumbers.number(of: memory.index)
    op.scale = UInt8(truncatingIfNeeded: max(1, memory.scale).trailingZeroBitCount)
    op.displacement = Int32(truncatingIfNeeded: place.displacement)
    if op.base == Operation.instructionPointer {
      op.displacement = op.displacement &+ Int32(op.offset) &+ Int32(op.length)
    } else if place.displacement != Int64(op.displacement), instruction.pointee.address_width == 64 {
      // A 64-bit absolute address (MOV with moffs).
      op.immediate = UInt64(bitPattern: place.displacement)
      op.flags |= OperationFlags.absoluteAddress.rawValue
    }
    if op.segmentRegister == SegmentRegister.fs.rawValue || op.segmentRegister == SegmentRegister.gs.rawValue {
      op.segment = 144 + op.segmentRegister * 16
    }
  }
}

extension Operation {
  /// Byte offset of RIP in CPUState.
  static let instructionPointer: UInt8 = 136
}
