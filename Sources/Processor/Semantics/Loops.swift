import CHost
import CZydis
import X86

/// LOOP, LOOPE, LOOPNE and JCXZ, JECXZ, JRCXZ. The counter is CX, ECX or RCX by address size.
enum Loops {
  static let rows: [InstructionRow] = [
    InstructionRow(ZYDIS_MNEMONIC_LOOP, .endsBlock, loop),
    InstructionRow(ZYDIS_MNEMONIC_LOOPE, .endsBlock, loopWhileEqual),
    InstructionRow(ZYDIS_MNEMONIC_LOOPNE, .endsBlock, loopWhileNotEqual),
    InstructionRow(ZYDIS_MNEMONIC_JCXZ, .endsBlock, jumpIfZero),
    InstructionRow(ZYDIS_MNEMONIC_JECXZ, .endsBlock, jumpIfZero),
    InstructionRow(ZYDIS_MNEMONIC_JRCXZ, .endsBlock, jumpIfZero),
  ]

  /// Whether the instruction is one of these.
  static func counts(_ mnemonic: ZydisMnemonic) -> Bool { mnemonics.contains(mnemonic.rawValue) }

  private static let mnemonics: Set<UInt32> = Set(
    [
      ZYDIS_MNEMONIC_LOOP, ZYDIS_MNEMONIC_LOOPE, ZYDIS_MNEMONIC_LOOPNE, ZYDIS_MNEMONIC_JCXZ, ZYDIS_MNEMONIC_JECXZ,
      ZYDIS_MNEMONIC_JRCXZ,
    ].map(\.rawValue))

  static func loop(_ processor: SoftwareProcessor, _ op: Op) throws(GuestFault) -> Flow {
    try countDown(processor, op, if: true)
  }

  static func loopWhileEqual(_ processor: SoftwareProcessor, _ op: Op) throws(GuestFault) -> Flow {
    try countDown(processor, op, if: processor.flag(RFLAGS.zf))
  }

  static func loopWhileNotEqual(_ processor: SoftwareProcessor, _ op: Op) throws(GuestFault) -> Flow {
    try countDown(processor, op, if: !processor.flag(RFLAGS.zf))
  }

  static func jumpIfZero(_ processor: SoftwareProcessor, _ op: Op) throws(GuestFault) -> Flow {
    guard processor.gpr(1) & op.pointee.addressMask == 0 else { return .next }
    processor.cpu.pointee.rip = try processor.checkedTarget(processor.nearTarget(op))
    return .branch
  }

  private static func countDown(
    _ processor: SoftwareProcessor, _ op: Op, if condition: Bool
  ) throws(GuestFault) -> Flow {
    let mask = op.pointee.addressMask
    let count = (processor.gpr(1) &- 1) & mask
    let isTaken = count != 0 && condition
    let target = isTaken ? try processor.checkedTarget(processor.nearTarget(op)) : 0
    processor.setGPR(1, (mask == 0xffff ? processor.gpr(1) & ~mask : 0) | count)
    guard isTaken else { return .next }
    processor.cpu.pointee.rip = target
    return .branch
  }
}
