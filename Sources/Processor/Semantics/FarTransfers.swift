import CHost
import CZydis
import X86

/// Far JMP, CALL and RET (SDM vol. 2A, CALL and JMP; vol. 2B, RET): direct, through call gates of 16, 32 and 64 bits,
/// through task gates and task-state segments. Gates are in `CallGates`.
enum FarTransfers {
  static let rows: [InstructionRow] = [
    InstructionRow(ZYDIS_MNEMONIC_JMP, operands: .far, .endsBlock) { (processor, op) throws(GuestFault) in
      let (selector, offset) = try processor.farPointer(op)
      return try processor.farJump(op, selector, offset)
    },
    InstructionRow(ZYDIS_MNEMONIC_CALL, operands: .far, .endsBlock) { (processor, op) throws(GuestFault) in
      let (selector, offset) = try processor.farPointer(op)
      return try processor.farCall(op, selector, offset)
    },
    InstructionRow(ZYDIS_MNEMONIC_RET, operands: .far, .endsBlock) { (processor, op) throws(GuestFault) in
      try processor.farReturn(op)
    },
  ]
}

extension SoftwareProcessor {
  /// Selector and offset of a far JMP or CALL: in the instruction, or in memory with the offset first.
  fileprivate func farPointer(_ op: Op) throws(GuestFault) -> (UInt16, UInt64) {
    guard op.pointee.flags & OperationFlags.memoryFirst.rawValue != 0 else {
      let offset = op.pointee.immediate
      return (op.pointee.detail, op.pointee.size == 2 ? offset & 0xffff : offset & 0xffff_ffff)
    }
    return try farPointerOperand(op)
  }

  /// Checks an offset in the code segment `code` as a branch target: #GP(0).
  func checkTarget(_ offset: UInt64, in code: Descriptor) throws(GuestFault) {
    let isInside = isLongMode && code.isLong ? isCanonical(offset) : offset <= UInt64(code.limit)
    guard isInside else { throw .generalProtection() }
  }

  /// Whether a far JMP or CALL without a gate may go to this code segment: #GP, #NP.
  private func checkDirectTarget(_ code: Descriptor, _ selector: UInt16) throws(GuestFault) {
    let fault = GuestFault.generalProtection(selectorError(selector))
    if isLongMode, code.isLong, code.isBig { throw fault }
    let rpl = UInt8(truncatingIfNeeded: selector & 3)
    let cpl = cpu.pointee.cpl
    guard code.isConforming ? code.dpl <= cpl : rpl <= cpl && code.dpl == cpl else { throw fault }
    guard code.isPresent else { throw .segmentNotPresent(selectorError(selector)) }
  }

  /// Loads CS without a change of CPL and goes to `offset`.
  func enterCode(_ code: Descriptor, _ selector: UInt16, _ offset: UInt64) {
    cpu.pointee.segments.1 = code.segment(selector: selector & ~3 | UInt16(cpu.pointee.cpl))
    cpu.pointee.rip = offset
    modeChanged()
  }

  // MARK: JMP

  fileprivate func farJump(_ op: Op, _ selector: UInt16, _ offset: UInt64) throws(GuestFault) -> Flow {
    if usesParagraphs { return try farJumpToParagraph(selector, offset) }
    guard selector & 0xfffc != 0 else { throw .generalProtection() }
    let descriptor = try readDescriptor(selector, orThrow: .generalProtection(selectorError(selector)))
    if descriptor.isCode {
      try checkDirectTarget(descriptor, selector)
      try checkTarget(offset, in: descriptor)
      try setAccessed(descriptor)
      enterCode(descriptor, selector, offset)
      return .branch
    }
    switch descriptor.type {
    case SystemType.callGate, SystemType.callGate16: return try jumpThroughGate(descriptor, selector)
    default: return try transferToTask(op, descriptor, selector, .jump)
    }
  }

  private func farJumpToParagraph(_ selector: UInt16, _ offset: UInt64) throws(GuestFault) -> Flow {
    let limit = isVirtual8086 ? 0xffff : cpu.pointee.segments.1.limit
    guard offset <= UInt64(limit) else { throw .generalProtection() }
    loadParagraph(SegmentRegister.cs.rawValue, selector)
    cpu.pointee.rip = offset
    modeChanged()
    return .branch
  }

  // MARK: CALL

  fileprivate func farCall(_ op: Op, _ selector: UInt16, _ offset: UInt64) throws(GuestFault) -> Flow {
    let size = Int(op.pointee.size)
    let next = truncateToCode(nextAddress(after: op))
    if usesParagraphs {
      let limit = isVirtual8086 ? 0xffff : cpu.pointee.segments.1.limit
      guard offset <= UInt64(limit) else { throw .generalProtection() }
      let pointer = try pushReturn(next, size)
      cpu.pointee.gpr.4 = pointer
      return try farJumpToParagraph(selector, offset)
    }
    guard selector & 0xfffc != 0 else { throw .generalProtection() }
    let descriptor = try readDescriptor(selector, orThrow: .generalProtection(selectorError(selector)))
    if descriptor.isCode {
      try checkDirectTarget(descriptor, selector)
      try checkTarget(offset, in: descriptor)
      try setAccessed(descriptor)
      cpu.pointee.gpr.4 = try pushReturn(next, size)
      enterCode(descriptor, selector, offset)
      return .branch
    }
    switch descriptor.type {
    case SystemType.callGate, SystemType.callGate16: return try callThroughGate(op, descriptor, selector)
    default: return try transferToTask(op, descriptor, selector, .call)
    }
  }

  /// Pushes CS and the return address; the new RSP.
  private func pushReturn(_ next: UInt64, _ size: Int) throws(GuestFault) -> UInt64 {
    var stack = currentStack()
    try push(UInt64(cpu.pointee.segments.1.selector), size: size, on: &stack)
    try push(next, size: size, on: &stack)
    return stack.merged(into: cpu.pointee.gpr.4)
  }

  // MARK: RET

  fileprivate func farReturn(_ op: Op) throws(GuestFault) -> Flow {
    let size = Int(op.pointee.size)
    let released = op.pointee.immediate & 0xffff
    let rip = try peekStack(0, size: size)
    let selector = UInt16(truncatingIfNeeded: try peekStack(size, size: size))
    if usesParagraphs {
      let limit = isVirtual8086 ? 0xffff : cpu.pointee.segments.1.limit
      guard rip <= UInt64(limit) else { throw .generalProtection() }
      stackPointer = stackPointer &+ UInt64(2 * size) &+ released
      loadParagraph(SegmentRegister.cs.rawValue, selector)
      cpu.pointee.rip = rip
      modeChanged()
      return .branch
    }
    let code = try readReturnCode(selector)
    let ring = UInt8(truncatingIfNeeded: selector & 3)
    if ring == cpu.pointee.cpl {
      try checkTarget(rip, in: code)
      try setAccessed(code)
      stackPointer = stackPointer &+ UInt64(2 * size) &+ released
      enterCode(code, selector, rip)
      return .branch
    }
    let parameters = Int(released)
    let pointer = try peekStack(2 * size + parameters, size: size)
    let stackSelector = UInt16(truncatingIfNeeded: try peekStack(3 * size + parameters, size: size))
    var segment: SegmentState
    let is64 = isLongMode && code.isLong
    if stackSelector & 0xfffc == 0, is64, ring < 3, stackSelector & 3 == UInt16(ring) {
      segment = Self.nullStackSegment(ring)
    } else {
      let stack = try readReturnStack(stackSelector, ring: ring)
      try setAccessed(stack)
      segment = stack.segment(selector: stackSelector)
    }
    try checkTarget(rip, in: code)
    try setAccessed(code)
    let top = pointer &+ released
    if is64 {
      cpu.pointee.segments.2 = segment
      cpu.pointee.gpr.4 = top
    } else {
      switchToOuterStack(segment, top)
    }
    cpu.pointee.cpl = ring
    dropInnerSegments()
    enterCode(code, selector, rip)
    return .branch
  }
}
