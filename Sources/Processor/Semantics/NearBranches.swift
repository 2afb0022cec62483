import CHost
import CZydis
import X86

/// Near JMP, Jcc, CALL and RET. The far forms have rows of their own.
enum NearBranches {
  static let rows: [InstructionRow] =
    [
      InstructionRow(ZYDIS_MNEMONIC_JMP, .endsBlock) { (processor, op) throws(GuestFault) in
        processor.cpu.pointee.rip = try processor.checkedTarget(processor.nearTarget(op))
        return .branch
      },
      InstructionRow(ZYDIS_MNEMONIC_CALL, .endsBlock) { (processor, op) throws(GuestFault) in
        let target = try processor.nearTarget(op)
        let size = Int(op.pointee.size)
        try processor.checkPush(size: size)
        _ = try processor.checkedTarget(target)
        try processor.push(processor.truncateToCode(processor.nextAddress(after: op)), size: size)
        processor.cpu.pointee.rip = target
        return .branch
      },
      InstructionRow(ZYDIS_MNEMONIC_RET, .endsBlock) { (processor, op) throws(GuestFault) in
        let size = Int(op.pointee.size)
        let target = try processor.checkedTarget(processor.peekStack(0, size: size))
        processor.stackPointer = processor.stackPointer &+ UInt64(size) &+ op.pointee.immediate & 0xffff
        processor.cpu.pointee.rip = target
        return .branch
      },
    ]
    + ConditionCode.jumps.enumerated().map { (code, mnemonic) in
      // The condition comes from the row: `detail` counts the rest of the block in direct branches.
      InstructionRow(mnemonic) { (processor, op) throws(GuestFault) in
        guard processor.holds(UInt16(code)) else { return .next }
        processor.cpu.pointee.rip = try processor.checkedTarget(processor.nearTarget(op))
        return .branch
      }
    }
}

extension SoftwareProcessor {
  /// RIP, EIP or IP: an instruction address as wide as the code mode has it.
  @inline(__always)
  func truncateToCode(_ address: UInt64) -> UInt64 { isLongMode64 ? address : address & 0xffff_ffff }

  /// Where a near branch goes, truncated to its operand size: direct, by register or by memory.
  func nearTarget(_ op: Op) throws(GuestFault) -> UInt64 {
    let isDirect = op.pointee.flags & OperationFlags.immediateFirst.rawValue != 0
    if isDirect {
      let target = cpu.pointee.rip &+ op.pointee.immediate
      switch op.pointee.size {
      case 2: return target & 0xffff
      case 4: return target & 0xffff_ffff
      default: return target
      }
    }
    switch op.pointee.size {
    case 2: return UInt64(try firstOperand(op, as: UInt16.self))
    case 4: return UInt64(try firstOperand(op, as: UInt32.self))
    default: return try firstOperand(op, as: UInt64.self)
    }
  }

  /// #GP(0) for a branch target beyond CS's limit, or not canonical in 64-bit mode.
  func checkedTarget(_ target: UInt64) throws(GuestFault) -> UInt64 {
    if isLongMode64 {
      guard isCanonical(target) else { throw .generalProtection() }
    } else if target > UInt64(cpu.pointee.segments.1.limit) {
      throw .generalProtection()
    }
    return target
  }
}
