import CHost
import CZydis
import Machine
import X86

/// XLAT, SALC, RDRAND and RDSEED, MOVNTI, fences, cache hints and what does nothing.
enum Miscellaneous {
  static let rows: [InstructionRow] = [
    InstructionRow(ZYDIS_MNEMONIC_XLAT, translate),
    InstructionRow(ZYDIS_MNEMONIC_SALC, setFromCarry),
    InstructionRow(ZYDIS_MNEMONIC_RDRAND, random),
    InstructionRow(ZYDIS_MNEMONIC_RDSEED, random),
    InstructionRow(ZYDIS_MNEMONIC_MOVNTI, store),
    InstructionRow(ZYDIS_MNEMONIC_MFENCE, fence),
    InstructionRow(ZYDIS_MNEMONIC_LFENCE, fence),
    InstructionRow(ZYDIS_MNEMONIC_SFENCE, fence),
    InstructionRow(ZYDIS_MNEMONIC_CLFLUSH, flushLine),
    InstructionRow(ZYDIS_MNEMONIC_CLFLUSHOPT, flushLine),
    InstructionRow(ZYDIS_MNEMONIC_CLWB, flushLine),
    InstructionRow(ZYDIS_MNEMONIC_CLDEMOTE, nothing),
    InstructionRow(ZYDIS_MNEMONIC_PREFETCH, nothing),
    InstructionRow(ZYDIS_MNEMONIC_PREFETCHNTA, nothing),
    InstructionRow(ZYDIS_MNEMONIC_PREFETCHT0, nothing),
    InstructionRow(ZYDIS_MNEMONIC_PREFETCHT1, nothing),
    InstructionRow(ZYDIS_MNEMONIC_PREFETCHT2, nothing),
    InstructionRow(ZYDIS_MNEMONIC_PREFETCHW, nothing),
    InstructionRow(ZYDIS_MNEMONIC_PREFETCHWT1, nothing),
    InstructionRow(ZYDIS_MNEMONIC_ENDBR32, nothing),
    InstructionRow(ZYDIS_MNEMONIC_ENDBR64, nothing),
    // Reads of the shadow-stack pointer, which do nothing while there is no shadow stack.
    InstructionRow(ZYDIS_MNEMONIC_RDSSPD, nothing),
    InstructionRow(ZYDIS_MNEMONIC_RDSSPQ, nothing),
  ]

  static func nothing(_ processor: SoftwareProcessor, _ op: Op) throws(GuestFault) -> Flow { .next }

  static func translate(_ processor: SoftwareProcessor, _ op: Op) throws(GuestFault) -> Flow {
    let offset = (processor.gpr(3) &+ processor.gpr(0) & 0xff) & op.pointee.addressMask
    let address = try processor.linearAddress(
      segment: Int(op.pointee.segmentRegister), offset: offset, count: 1, for: .read)
    processor.setRegister(0, try processor.load(address, as: UInt8.self))
    return .next
  }

  static func setFromCarry(_ processor: SoftwareProcessor, _ op: Op) throws(GuestFault) -> Flow {
    processor.setRegister(0, processor.flag(RFLAGS.cf) ? 0xff : 0 as UInt8)
    return .next
  }

  /// Always succeeds: CF is set.
  static func random(_ processor: SoftwareProcessor, _ op: Op) throws(GuestFault) -> Flow {
    let isIntercepted = processor.cpu.pointee.intercepts.rawValue & CPUIntercepts.randomNumber.rawValue != 0
    let value =
      isIntercepted
      ? try processor.answer(to: .randomRead(size: Int(op.pointee.size))) : UInt64.random(in: .min ... .max)
    switch op.pointee.size {
    case 2: processor.setRegister(op.pointee.destination, UInt16(truncatingIfNeeded: value))
    case 4: processor.setRegister(op.pointee.destination, UInt32(truncatingIfNeeded: value))
    default: processor.setRegister(op.pointee.destination, value)
    }
    processor.setFlags(RFLAGS.arithmetic, RFLAGS.cf)
    return .next
  }

  static func store(_ processor: SoftwareProcessor, _ op: Op) throws(GuestFault) -> Flow {
    if op.pointee.size == 8 {
      try processor.setFirstOperand(op, processor.secondOperand(op, as: UInt64.self))
    } else {
      try processor.setFirstOperand(op, processor.secondOperand(op, as: UInt32.self))
    }
    return .next
  }

  /// The host reorders what the guest's own processors would.
  static func fence(_ processor: SoftwareProcessor, _ op: Op) throws(GuestFault) -> Flow {
    hostFence()
    return .next
  }

  /// There is no cache to flush; the access is checked as a load of one byte.
  static func flushLine(_ processor: SoftwareProcessor, _ op: Op) throws(GuestFault) -> Flow {
    let address = try processor.operandAddress(op, count: 1, for: .read)
    try processor.checkReadable(address, count: 1)
    return .next
  }
}
