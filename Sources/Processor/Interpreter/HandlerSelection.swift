import CHost
import CZydis
import X86

/// Which instructions have a chain handler, by mnemonic and shape. Nil: the semantic function does it.
enum HandlerSelection {
  static func handler(
    for mnemonic: ZydisMnemonic, _ op: Operation, mode: CodeMode, _ rules: FlagRules
  ) -> OperationHandler? {
    guard let shape = OperandShape(op), op.third < Operation.debugMark else { return nil }
    if shape.hasMemory, !addressesFlatly(op, mode) { return nil }
    guard let handlers = byMnemonic[Int(mnemonic.rawValue)], makesFlags(mnemonic, rules) else { return nil }
    return handlers(op, shape, mode)
  }

  /// Whether chain handlers can leave undefined flags as the host does.
  private static func makesFlags(_ mnemonic: ZydisMnemonic, _ rules: FlagRules) -> Bool {
    switch mnemonic {
    case ZYDIS_MNEMONIC_SHL, ZYDIS_MNEMONIC_SHR, ZYDIS_MNEMONIC_SAR: rules.shiftsHaveHandlers
    case ZYDIS_MNEMONIC_ROL, ZYDIS_MNEMONIC_ROR: rules.rotatesHaveHandlers
    case ZYDIS_MNEMONIC_IMUL: rules.productFlags != nil
    default: true
    }
  }

  /// Outside 64-bit mode CS is not writable, and FS and GS may have limits.
  private static func addressesFlatly(_ op: Operation, _ mode: CodeMode) -> Bool {
    if mode.contains(.code64) { return true }
    guard mode.contains(.flat) else { return false }
    switch SegmentRegister(rawValue: Int(op.segmentRegister)) {
    case .cs: return false
    case .fs: return mode.contains(.openFS)
    case .gs: return mode.contains(.openGS)
    default: return true
    }
  }

  private typealias Choice = @Sendable (Operation, OperandShape, CodeMode) -> OperationHandler?

  private static let byMnemonic: [Choice?] = {
    var table = [Choice?](repeating: nil, count: Int(ZYDIS_MNEMONIC_MAX_VALUE.rawValue) + 1)
    func add(_ mnemonic: ZydisMnemonic, _ choice: @escaping Choice) { table[Int(mnemonic.rawValue)] = choice }

    let arithmetic: [(ZydisMnemonic, [OperationHandler])] = [
      (ZYDIS_MNEMONIC_ADD, ArithmeticHandlers.add), (ZYDIS_MNEMONIC_OR, ArithmeticHandlers.or),
      (ZYDIS_MNEMONIC_ADC, ArithmeticHandlers.adc), (ZYDIS_MNEMONIC_SBB, ArithmeticHandlers.sbb),
      (ZYDIS_MNEMONIC_AND, ArithmeticHandlers.and), (ZYDIS_MNEMONIC_SUB, ArithmeticHandlers.sub),
      (ZYDIS_MNEMONIC_XOR, ArithmeticHandlers.xor), (ZYDIS_MNEMONIC_CMP, ArithmeticHandlers.cmp),
      (ZYDIS_MNEMONIC_TEST, ArithmeticHandlers.test),
    ]
    for (mnemonic, handlers) in arithmetic {
      add(mnemonic) { op, shape, _ in handlers[shape.rawValue * 4 + sizeIndex(op)] }
    }
    add(ZYDIS_MNEMONIC_MOV) { op, shape, _ in
      MoveHandlers.mov[shape.rawValue * 4 + sizeIndex(op)]
    }
    add(ZYDIS_MNEMONIC_MOVZX) { op, shape, _ in
      guard op.size >= 4 else { return nil }
      return MoveHandlers.movzx[(shape.hasMemory ? 2 : 0) + (op.sourceSize == 1 ? 0 : 1)]
    }
    let signExtension: Choice = { op, shape, _ in
      guard op.size >= 4 else { return nil }
      let isWide = op.size == 8
      guard op.sourceSize < 4 || isWide else { return nil }
      let place = op.sourceSize == 4 ? 4 : (op.sourceSize == 1 ? 0 : 2) + (isWide ? 1 : 0)
      return MoveHandlers.movsx[(shape.hasMemory ? 5 : 0) + place]
    }
    add(ZYDIS_MNEMONIC_MOVSX, signExtension)
    add(ZYDIS_MNEMONIC_MOVSXD, signExtension)
    add(ZYDIS_MNEMONIC_LEA) { op, _, _ in
      op.size == 8 ? MoveHandlers.lea64 : op.size == 4 ? MoveHandlers.lea32 : nil
    }
    for mnemonic in [
      ZYDIS_MNEMONIC_NOP, ZYDIS_MNEMONIC_PREFETCHT0, ZYDIS_MNEMONIC_PREFETCHT1, ZYDIS_MNEMONIC_PREFETCHT2,
      ZYDIS_MNEMONIC_PREFETCHNTA, ZYDIS_MNEMONIC_PREFETCHW,
    ] {
      add(mnemonic) { _, _, _ in MoveHandlers.nop }
    }
    add(ZYDIS_MNEMONIC_BSWAP) { op, _, _ in
      op.size == 8 ? MoveHandlers.bswap64 : op.size == 4 ? MoveHandlers.bswap32 : nil
    }
    add(ZYDIS_MNEMONIC_CDQE) { _, _, _ in MoveHandlers.cdqe }
    add(ZYDIS_MNEMONIC_CDQ) { _, _, _ in MoveHandlers.cdq }
    add(ZYDIS_MNEMONIC_CQO) { _, _, _ in MoveHandlers.cqo }
    for mnemonic in ConditionCode.moves {
      add(mnemonic) { op, shape, _ in
        guard op.size >= 4 else { return nil }
        return MoveHandlers.moveIf[(shape.hasMemory ? 2 : 0) + (op.size == 8 ? 1 : 0)]
      }
    }
    for mnemonic in ConditionCode.sets {
      add(mnemonic) { _, shape, _ in shape.hasMemory ? nil : MoveHandlers.setIf }
    }
    let unary: [(ZydisMnemonic, [OperationHandler])] = [
      (ZYDIS_MNEMONIC_INC, MoveHandlers.inc), (ZYDIS_MNEMONIC_DEC, MoveHandlers.dec),
      (ZYDIS_MNEMONIC_NEG, MoveHandlers.neg), (ZYDIS_MNEMONIC_NOT, MoveHandlers.not),
    ]
    for (mnemonic, handlers) in unary {
      add(mnemonic) { op, shape, _ in handlers[(shape.hasMemory ? 4 : 0) + sizeIndex(op)] }
    }
    add(ZYDIS_MNEMONIC_IMUL, multiplication)
    let shifts: [(ZydisMnemonic, [OperationHandler], [OperationHandler])] = [
      (ZYDIS_MNEMONIC_SHL, ShiftHandlers.shl, ShiftHandlers.shlMemory),
      (ZYDIS_MNEMONIC_SHR, ShiftHandlers.shr, ShiftHandlers.shrMemory),
      (ZYDIS_MNEMONIC_SAR, ShiftHandlers.sar, ShiftHandlers.sarMemory),
      (ZYDIS_MNEMONIC_ROL, ShiftHandlers.rol, []), (ZYDIS_MNEMONIC_ROR, ShiftHandlers.ror, []),
    ]
    for (mnemonic, handlers, memoryHandlers) in shifts {
      add(mnemonic) { op, shape, _ in
        guard op.size >= 4 else { return nil }
        let isImmediate = shape == .registerImmediate || shape == .memoryImmediate
        let place = (isImmediate ? 0 : 2) + (op.size == 8 ? 1 : 0)
        if shape.hasMemory { return place < memoryHandlers.count ? memoryHandlers[place] : nil }
        return handlers[place]
      }
    }
    addBranches(add)
    return table
  }()

  private static func addBranches(_ add: (ZydisMnemonic, @escaping Choice) -> Void) {
    for (code, mnemonic) in ConditionCode.jumps.enumerated() {
      add(mnemonic) { op, _, mode in goesDirectly(op, mode) ? BranchHandlers.jumpIf[code] : nil }
    }
    add(ZYDIS_MNEMONIC_JMP) { op, shape, mode in
      if goesDirectly(op, mode) { return BranchHandlers.jumpDirect }
      guard let width = codeWidth(op, mode) else { return nil }
      return shape.hasMemory ? BranchHandlers.jumpMemory[width] : BranchHandlers.jumpRegister[width]
    }
    add(ZYDIS_MNEMONIC_CALL) { op, shape, mode in
      guard let width = stackWidth(op, mode) else { return nil }
      if op.flags & OperationFlags.immediateFirst.rawValue != 0 { return BranchHandlers.callDirect[width] }
      return shape.hasMemory ? BranchHandlers.callMemory[width] : BranchHandlers.callRegister[width]
    }
    add(ZYDIS_MNEMONIC_RET) { op, _, mode in
      guard let width = stackWidth(op, mode) else { return nil }
      return op.flags & OperationFlags.immediateFirst.rawValue == 0
        ? BranchHandlers.return[width] : BranchHandlers.returnReleasing[width]
    }
    add(ZYDIS_MNEMONIC_PUSH) { op, shape, mode in
      guard let width = stackWidth(op, mode) else { return nil }
      if op.flags & OperationFlags.immediateFirst.rawValue != 0 { return StackHandlers.pushImmediate[width] }
      return shape.hasMemory ? StackHandlers.pushMemory[width] : StackHandlers.pushRegister[width]
    }
    add(ZYDIS_MNEMONIC_POP) { op, shape, mode in
      guard !shape.hasMemory else { return nil }
      return stackWidth(op, mode).map { StackHandlers.popRegister[$0] }
    }
    add(ZYDIS_MNEMONIC_LEAVE) { op, _, mode in stackWidth(op, mode).map { StackHandlers.leave[$0] } }
  }

  /// Whether a jump has a target that was found good when it was decoded.
  private static func goesDirectly(_ op: Operation, _ mode: CodeMode) -> Bool {
    op.flags & OperationFlags.relative.rawValue != 0 && (!mode.contains(.flat) || codeWidth(op, mode) != nil)
  }

  /// Which of a pair of handlers does for a near branch: 0 for 32-bit flat code, 1 for 64-bit code. Nil for any other
  /// code, and for a width by prefix.
  private static func codeWidth(_ op: Operation, _ mode: CodeMode) -> Int? {
    if mode.contains(.code64) { return op.size == 8 ? 1 : nil }
    return mode.isSuperset(of: [.flat, .code32]) && op.size == 4 ? 0 : nil
  }

  /// The same for what also uses the stack.
  private static func stackWidth(_ op: Operation, _ mode: CodeMode) -> Int? {
    mode.isDisjoint(with: [.code64, .stack32]) ? nil : codeWidth(op, mode)
  }

  private static let multiplication: Choice = { op, shape, _ in
    guard op.size >= 4, op.source != Operation.absent || shape == .registerMemory else { return nil }
    let isWide = op.size == 8
    if op.flags & OperationFlags.immediateThird.rawValue != 0 {
      guard shape == .registerRegister else { return nil }
      return isWide ? MoveHandlers.imulImmediate64 : MoveHandlers.imulImmediate32
    }
    if shape == .registerMemory { return isWide ? MoveHandlers.imulMemory64 : MoveHandlers.imulMemory32 }
    return isWide ? MoveHandlers.imul64 : MoveHandlers.imul32
  }

  /// 0 to 3 for 8 to 64 bits.
  private static func sizeIndex(_ op: Operation) -> Int { Int(op.size).trailingZeroBitCount & 3 }
}
