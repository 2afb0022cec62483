import CHost
import CZydis
import X86

/// General-purpose instructions.
extension BlockTranslation {
  /// How an instruction is translated.
  enum Kind: UInt8 {
    case none
    /// Its operands are replaced, and it is executed as it is.
    case plain
    /// As `plain`; flags that the manual leaves undefined may keep their values, so these must be there.
    case plainKeepingFlags
    case move, exchange, shift, loadAddress, byteSwap
    case compareExchange, multiply, signExtend, nothing
    case jump, jumpIf, call, `return`, push, pop, leave
    case loop, jumpIfCounterIsZero
    case loadDS, loadES, loadFS, loadGS
    case incrementDecrement
    case divide, signedDivide
    case fence
    case clearInterrupts, setInterrupts, swapBases, pushFlags, timeStamp
    case carry, clearDirection, setDirection
    case systemCall, systemReturn
  }

  static let kinds: [Kind] = {
    var table = [Kind](repeating: .none, count: Int(ZYDIS_MNEMONIC_MAX_VALUE.rawValue) + 1)
    func add(_ kind: Kind, _ mnemonics: ZydisMnemonic...) {
      for mnemonic in mnemonics { table[Int(mnemonic.rawValue)] = kind }
    }
    add(
      .plain, ZYDIS_MNEMONIC_ADD, ZYDIS_MNEMONIC_OR, ZYDIS_MNEMONIC_ADC, ZYDIS_MNEMONIC_SBB, ZYDIS_MNEMONIC_AND,
      ZYDIS_MNEMONIC_SUB, ZYDIS_MNEMONIC_XOR, ZYDIS_MNEMONIC_CMP, ZYDIS_MNEMONIC_TEST, ZYDIS_MNEMONIC_NOT,
      ZYDIS_MNEMONIC_NEG, ZYDIS_MNEMONIC_MOVZX, ZYDIS_MNEMONIC_MOVSX, ZYDIS_MNEMONIC_MOVSXD, ZYDIS_MNEMONIC_XADD)
    add(
      .plainKeepingFlags, ZYDIS_MNEMONIC_IMUL, ZYDIS_MNEMONIC_BT, ZYDIS_MNEMONIC_BTS, ZYDIS_MNEMONIC_BTR,
      ZYDIS_MNEMONIC_BTC, ZYDIS_MNEMONIC_BSF, ZYDIS_MNEMONIC_BSR, ZYDIS_MNEMONIC_TZCNT, ZYDIS_MNEMONIC_LZCNT,
      ZYDIS_MNEMONIC_POPCNT, ZYDIS_MNEMONIC_SHLD, ZYDIS_MNEMONIC_SHRD)
    for mnemonic in ConditionCode.moves + ConditionCode.sets { table[Int(mnemonic.rawValue)] = .plain }
    for mnemonic in ConditionCode.jumps { table[Int(mnemonic.rawValue)] = .jumpIf }
    add(
      .shift, ZYDIS_MNEMONIC_SHL, ZYDIS_MNEMONIC_SHR, ZYDIS_MNEMONIC_SAR, ZYDIS_MNEMONIC_ROL, ZYDIS_MNEMONIC_ROR,
      ZYDIS_MNEMONIC_RCL, ZYDIS_MNEMONIC_RCR)
    add(.incrementDecrement, ZYDIS_MNEMONIC_INC, ZYDIS_MNEMONIC_DEC)
    add(.move, ZYDIS_MNEMONIC_MOV)
    add(.exchange, ZYDIS_MNEMONIC_XCHG)
    add(.loadAddress, ZYDIS_MNEMONIC_LEA)
    add(.byteSwap, ZYDIS_MNEMONIC_BSWAP)
    add(.compareExchange, ZYDIS_MNEMONIC_CMPXCHG)
    add(.multiply, ZYDIS_MNEMONIC_MUL)
    add(.divide, ZYDIS_MNEMONIC_DIV)
    add(.signedDivide, ZYDIS_MNEMONIC_IDIV)
    add(.fence, ZYDIS_MNEMONIC_SFENCE, ZYDIS_MNEMONIC_MFENCE)
    // Loads are in order without it; and it costs the host dearly.
    add(.nothing, ZYDIS_MNEMONIC_LFENCE)
    add(.systemCall, ZYDIS_MNEMONIC_SYSCALL)
    add(.systemReturn, ZYDIS_MNEMONIC_SYSRET)
    add(.timeStamp, ZYDIS_MNEMONIC_RDTSC, ZYDIS_MNEMONIC_RDTSCP)
    add(.clearInterrupts, ZYDIS_MNEMONIC_CLI)
    add(.setInterrupts, ZYDIS_MNEMONIC_STI)
    add(.swapBases, ZYDIS_MNEMONIC_SWAPGS)
    add(.carry, ZYDIS_MNEMONIC_CLC, ZYDIS_MNEMONIC_STC, ZYDIS_MNEMONIC_CMC)
    add(.clearDirection, ZYDIS_MNEMONIC_CLD)
    add(.setDirection, ZYDIS_MNEMONIC_STD)
    add(.pushFlags, ZYDIS_MNEMONIC_PUSHFQ, ZYDIS_MNEMONIC_PUSHFD, ZYDIS_MNEMONIC_PUSHF)
    add(
      .signExtend, ZYDIS_MNEMONIC_CBW, ZYDIS_MNEMONIC_CWDE, ZYDIS_MNEMONIC_CDQE, ZYDIS_MNEMONIC_CWD,
      ZYDIS_MNEMONIC_CDQ, ZYDIS_MNEMONIC_CQO)
    add(
      .nothing, ZYDIS_MNEMONIC_NOP, ZYDIS_MNEMONIC_PREFETCHT0, ZYDIS_MNEMONIC_PREFETCHT1, ZYDIS_MNEMONIC_PREFETCHT2,
      ZYDIS_MNEMONIC_PREFETCHNTA, ZYDIS_MNEMONIC_PREFETCHW, ZYDIS_MNEMONIC_ENDBR64, ZYDIS_MNEMONIC_ENDBR32)
    add(.jump, ZYDIS_MNEMONIC_JMP)
    add(.call, ZYDIS_MNEMONIC_CALL)
    add(.return, ZYDIS_MNEMONIC_RET)
    add(.push, ZYDIS_MNEMONIC_PUSH)
    add(.pop, ZYDIS_MNEMONIC_POP)
    add(.leave, ZYDIS_MNEMONIC_LEAVE)
    add(.loop, ZYDIS_MNEMONIC_LOOP, ZYDIS_MNEMONIC_LOOPE, ZYDIS_MNEMONIC_LOOPNE)
    add(.jumpIfCounterIsZero, ZYDIS_MNEMONIC_JCXZ, ZYDIS_MNEMONIC_JECXZ, ZYDIS_MNEMONIC_JRCXZ)
    add(.loadDS, ZYDIS_MNEMONIC_LDS)
    add(.loadES, ZYDIS_MNEMONIC_LES)
    add(.loadFS, ZYDIS_MNEMONIC_LFS)
    add(.loadGS, ZYDIS_MNEMONIC_LGS)
    return table
  }()

  /// Emits the decoded instruction. False if it has no translation; what was emitted is void then.
  mutating func emitInstruction() -> Bool {
    let mnemonic = instruction.pointee.mnemonic
    if op.semantic == PseudoInstructions.native { return emitVector() }
    guard instruction.pointee.encoding == ZYDIS_INSTRUCTION_ENCODING_LEGACY else { return emitGeneralVEX() }
    switch Self.kinds[Int(mnemonic.rawValue)] {
    case .none: return false
    case .nothing: return true
    case .plain: return emitPlain()
    case .plainKeepingFlags: return emitPlainKeepingFlags()
    case .incrementDecrement: return emitIncrementDecrement()
    case .shift: return emitShift()
    case .move: return emitMove()
    case .exchange: return emitExchange()
    case .loadAddress: return emitLoadAddress()
    case .byteSwap: return emitByteSwap()
    case .compareExchange: return emitCompareExchange()
    case .multiply: return emitMultiply()
    case .signExtend: return emitSignExtend()
    case .jump: return emitJump()
    case .jumpIf: return emitJumpIf()
    case .call: return emitCall()
    case .return: return emitReturn()
    case .push: return emitPush()
    case .pop: return emitPop()
    case .leave: return emitLeave()
    case .loop: return emitLoop()
    case .jumpIfCounterIsZero: return emitJumpIfCounterIsZero()
    case .loadDS: return emitFarPointerLoad(.ds)
    case .loadES: return emitFarPointerLoad(.es)
    case .loadFS: return emitFarPointerLoad(.fs)
    case .loadGS: return emitFarPointerLoad(.gs)
    case .divide: return emitDivide(isSigned: false)
    case .signedDivide: return emitDivide(isSigned: true)
    case .fence:
      code.bytes(0x0f, 0xae, mnemonic == ZYDIS_MNEMONIC_MFENCE ? 0xf0 : 0xf8)
      return true
    case .clearInterrupts: return emitClearInterrupts()
    case .setInterrupts: return emitSetInterrupts()
    case .swapBases: return emitSwapBases()
    case .carry:
      // The others stay.
      restoreFlags()
      code.byte(instruction.pointee.opcode)
      noteFlagsWritten()
      return true
    case .clearDirection: return emitDirection(isSet: false)
    case .setDirection: return emitDirection(isSet: true)
    case .pushFlags: return emitPushFlags()
    case .timeStamp: return emitTimeStamp()
    case .systemCall: return emitSystemCall()
    case .systemReturn: return emitSystemReturn()
    }
  }

  // MARK: Operands

  /// A general register of the guest as an operand.
  struct Register {
    var guest: Int
    /// In bytes.
    var size: Int
    var isRead: Bool
    var isWritten: Bool
  }

  /// The operand that ModRM's `reg` field or, with `encoding`, another part of the instruction names. Nil if there is
  /// none, or if it is AH, CH, DH or BH.
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
    guard offset & 7 == 0, offset < 128 else { return nil }
    return Register(
      guest: offset / 8, size: Int(operand.pointee.size) / 8, isRead: operand.pointee.isRead,
      isWritten: operand.pointee.isWritten)
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

  var flagsTested: UInt32 {
    instruction.pointee.cpu_flags.map { $0.pointee.tested & UInt32(RFLAGS.arithmetic) } ?? 0
  }

  var flagsWritten: UInt32 {
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
    var rmInSecond = false
    var registerNumber = form.field
    if let register = form.register {
      if let host = GuestRegisters.host(register.guest) {
        registerNumber = host
      } else {
        registerNumber = first
        registerInFirst = true
      }
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
      if let host = GuestRegisters.host(register.guest) {
        rm = .register(host)
      } else {
        rm = .register(second)
        rmInSecond = true
      }
    } else if let number = form.vectorRM {
      rm = .register(number)
    } else {
      return
    }
    if form.needsFlags { restoreFlags() }
    if registerInFirst, let register = form.register {
      code.load(first, GuestRegisters.home(register.guest))
    }
    if rmInSecond, let register = form.rm {
      code.load(second, GuestRegisters.home(register.guest))
    }
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
    if registerInFirst, let register = form.register, register.isWritten {
      code.store(first, GuestRegisters.home(register.guest))
    }
    if rmInSecond, let register = form.rm, register.isWritten {
      code.store(second, GuestRegisters.home(register.guest))
    }
    if form.writesFlags { noteFlagsWritten() }
  }

  // MARK: Special cases

  private mutating func emitPlainKeepingFlags() -> Bool {
    guard var form = form() else { return false }
    switch instruction.pointee.mnemonic {
    case ZYDIS_MNEMONIC_IMUL:
      // One operand: RDX:RAX.
      if form.register == nil { return emitMultiply() }
    case ZYDIS_MNEMONIC_BT, ZYDIS_MNEMONIC_BTS, ZYDIS_MNEMONIC_BTR, ZYDIS_MNEMONIC_BTC:
      // A bit number in a register addresses memory beyond the operand.
      if form.memory != nil, form.register != nil { return false }
    case ZYDIS_MNEMONIC_TZCNT, ZYDIS_MNEMONIC_LZCNT, ZYDIS_MNEMONIC_POPCNT: form.prefix = 0xf3
    case ZYDIS_MNEMONIC_SHLD, ZYDIS_MNEMONIC_SHRD:
      // Counts beyond 16 have no defined result for 16 bits.
      if form.size == 2 { return false }
    default: break
    }
    form.needsFlags = true
    // 66 comes before F3.
    if form.prefix != 0, form.size == 2 { return false }
    emit(form)
    return true
  }

  private mutating func emitIncrementDecrement() -> Bool {
    if instruction.pointee.raw.modrm.offset == 0 {
      guard let register = register(operands) else { return false }
      var form = Form(
        map: .primary, opcode: 0xff, size: operandSize,
        field: instruction.pointee.mnemonic == ZYDIS_MNEMONIC_INC ? 0 : 1)
      form.rm = register
      form.needsFlags = true
      form.writesFlags = true
      emit(form)
      return true
    }
    return emitPlain()
  }

  private mutating func emitShift() -> Bool {
    guard var form = form() else { return false }
    let mask: Int64 = form.size == 8 ? 63 : 31
    let isByCL = form.opcode == 0xd2 || form.opcode == 0xd3
    let isByOne = form.opcode == 0xd0 || form.opcode == 0xd1
    if isByOne { form.immediate = (0, 0) }
    let count = isByOne ? 1 : form.immediate.value & mask
    if isByCL {
      // A count of zero leaves the flags alone.
      form.needsFlags = true
    } else if count == 0 {
      form.needsFlags = false
      form.writesFlags = false
    }
    emit(form)
    return true
  }

  private mutating func emitMove() -> Bool {
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
      let destination = GuestRegisters.host(register.guest) ?? GuestRegisters.first
      let isHomeless = GuestRegisters.host(register.guest) == nil
      if isHomeless, size < 4 { code.load(destination, GuestRegisters.home(register.guest)) }
      switch size {
      case 8: code.loadConstant(destination, UInt64(bitPattern: value))
      case 4:
        if destination & 8 != 0 { code.byte(0x41) }
        code.byte(0xb8 | UInt8(destination & 7))
        code.word32(Int32(truncatingIfNeeded: value))
      case 2:
        code.instruction(
          .primary, 0xc7, reg: 0, .register(destination), size: 2, immediate: value, immediateSize: 2)
      default:
        code.instruction(
          .primary, 0xc6, reg: 0, .register(destination), size: 1, hasByteRegister: true, immediate: value,
          immediateSize: 1)
      }
      if isHomeless { code.store(destination, GuestRegisters.home(register.guest)) }
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

  private mutating func emitExchange() -> Bool {
    if instruction.pointee.raw.modrm.offset != 0 { return emitPlain() }
    guard let one = register(operands), let other = register(operands + 1) else { return false }
    var form = Form(map: .primary, opcode: 0x87, size: operandSize, field: 0)
    form.register = one
    form.rm = other
    emit(form)
    return true
  }

  private mutating func emitLoadAddress() -> Bool {
    guard let destination = register(ZYDIS_OPERAND_ENCODING_MODRM_REG), let memory = memoryOperand,
      var address = address(of: memory)
    else { return false }
    address.segment = nil
    let second = GuestRegisters.second
    let host = GuestRegisters.host(destination.guest)
    // In place where base and index have host registers and nothing is cut off that has to be cleared.
    if let host, !address.isRelative, destination.size <= address.size || address.size > 2, let base = address.base,
      let hostBase = GuestRegisters.host(base),
      address.index.map({ GuestRegisters.host($0) != nil }) ?? true
    {
      let index = address.index.flatMap { GuestRegisters.host($0) }
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

  private mutating func emitByteSwap() -> Bool {
    guard let register = register(operands), register.size >= 4 else { return false }
    let host = GuestRegisters.host(register.guest) ?? GuestRegisters.first
    let isHomeless = GuestRegisters.host(register.guest) == nil
    if isHomeless { code.load(host, GuestRegisters.home(register.guest)) }
    let rex: UInt8 = (register.size == 8 ? 0x48 : 0x40) | (host & 8 != 0 ? 1 : 0)
    code.bytes(rex, 0x0f, 0xc8 | UInt8(host & 7))
    if isHomeless { code.store(host, GuestRegisters.home(register.guest)) }
    return true
  }

  /// RAX is an operand that no field names.
  private var hostOfRAX: Int { GuestRegisters.host(GuestRegisters.rax).unsafelyUnwrapped }

  private mutating func emitCompareExchange() -> Bool {
    guard let form = form(), let register = form.register, let host = GuestRegisters.host(register.guest) else {
      return false
    }
    let rm: HostOperand
    if let address = form.memory {
      rm = accessInSecond(address, size: form.memorySize, isWrite: true)
    } else {
      guard let other = form.rm, let otherHost = GuestRegisters.host(other.guest) else { return false }
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

  private mutating func emitMultiply() -> Bool {
    guard let form = form(), form.register == nil else { return false }
    var rm: HostOperand
    if let address = form.memory {
      rm = accessInSecond(address, size: form.memorySize, isWrite: false)
    } else if let register = form.rm {
      rm = GuestRegisters.host(register.guest).map { .register($0) } ?? GuestRegisters.home(register.guest)
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
  private mutating func emitDivide(isSigned: Bool) -> Bool {
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
      rm = GuestRegisters.host(register.guest).map { .register($0) } ?? GuestRegisters.home(register.guest)
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

  private mutating func emitSignExtend() -> Bool {
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
