import CHost
import CZydis
import X86

/// Which instructions are translated, and by which function.
extension BlockTranslation {
  /// How an instruction is translated.
  enum Kind: UInt8 {
    case none
    /// Its operands are replaced, and it is executed as it is.
    case plain
    /// As `plain`; flags that the manual leaves undefined may keep their values, so these must be there.
    case plainKeepingFlags
    case move, exchange, shift, loadAddress, byteSwap
    case compareExchange, wideCompareExchange, multiply, signExtend, nothing
    case jump, jumpIf, call, `return`, push, pop, leave
    case loop, jumpIfCounterIsZero
    case loadDS, loadES, loadFS, loadGS
    case incrementDecrement
    case divide, signedDivide
    case fence
    case clearInterrupts, setInterrupts, swapBases, pushFlags, timeStamp
    case readBase, writeBase
    case carry, clearDirection, setDirection
    case systemCall, systemReturn, interruptReturn
    case moveString, storeString, loadString, compareString, scanString
    case clearAccess, setAccess
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
    add(.wideCompareExchange, ZYDIS_MNEMONIC_CMPXCHG8B, ZYDIS_MNEMONIC_CMPXCHG16B)
    add(.multiply, ZYDIS_MNEMONIC_MUL)
    add(.divide, ZYDIS_MNEMONIC_DIV)
    add(.signedDivide, ZYDIS_MNEMONIC_IDIV)
    add(.fence, ZYDIS_MNEMONIC_SFENCE, ZYDIS_MNEMONIC_MFENCE)
    // Loads are in order without it; and it costs the host dearly.
    add(.nothing, ZYDIS_MNEMONIC_LFENCE)
    add(.systemCall, ZYDIS_MNEMONIC_SYSCALL)
    add(.systemReturn, ZYDIS_MNEMONIC_SYSRET)
    add(.interruptReturn, ZYDIS_MNEMONIC_IRETQ, ZYDIS_MNEMONIC_IRETD)
    add(.timeStamp, ZYDIS_MNEMONIC_RDTSC, ZYDIS_MNEMONIC_RDTSCP)
    add(.clearInterrupts, ZYDIS_MNEMONIC_CLI)
    add(.setInterrupts, ZYDIS_MNEMONIC_STI)
    add(.swapBases, ZYDIS_MNEMONIC_SWAPGS)
    add(.readBase, ZYDIS_MNEMONIC_RDFSBASE, ZYDIS_MNEMONIC_RDGSBASE)
    add(.writeBase, ZYDIS_MNEMONIC_WRFSBASE, ZYDIS_MNEMONIC_WRGSBASE)
    add(.moveString, ZYDIS_MNEMONIC_MOVSB, ZYDIS_MNEMONIC_MOVSW, ZYDIS_MNEMONIC_MOVSD, ZYDIS_MNEMONIC_MOVSQ)
    add(.storeString, ZYDIS_MNEMONIC_STOSB, ZYDIS_MNEMONIC_STOSW, ZYDIS_MNEMONIC_STOSD, ZYDIS_MNEMONIC_STOSQ)
    add(.loadString, ZYDIS_MNEMONIC_LODSB, ZYDIS_MNEMONIC_LODSW, ZYDIS_MNEMONIC_LODSD, ZYDIS_MNEMONIC_LODSQ)
    add(.compareString, ZYDIS_MNEMONIC_CMPSB, ZYDIS_MNEMONIC_CMPSW, ZYDIS_MNEMONIC_CMPSD, ZYDIS_MNEMONIC_CMPSQ)
    add(.scanString, ZYDIS_MNEMONIC_SCASB, ZYDIS_MNEMONIC_SCASW, ZYDIS_MNEMONIC_SCASD, ZYDIS_MNEMONIC_SCASQ)
    add(.clearAccess, ZYDIS_MNEMONIC_CLAC)
    add(.setAccess, ZYDIS_MNEMONIC_STAC)
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
    if !translator.refused.isEmpty, translator.refused.contains(mnemonic.rawValue) { return false }
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
    case .wideCompareExchange: return emitWideCompareExchange()
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
    case .readBase: return emitReadBase()
    case .writeBase: return emitWriteBase()
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
    case .interruptReturn: return emitInterruptReturn()
    case .clearAccess: return emitAccess(isSet: false)
    case .setAccess: return emitAccess(isSet: true)
    case .moveString: return emitMoveString()
    case .storeString: return emitStoreString()
    case .loadString: return emitLoadString()
    case .compareString: return emitCompareString()
    case .scanString: return emitScanString()
    }
  }
}
