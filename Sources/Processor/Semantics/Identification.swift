import CHost
import CZydis
import X86

/// CPUID, and the bases of FS and GS: RDFSBASE and kin, SWAPGS.
enum Identification {
  static let rows: [InstructionRow] = [
    InstructionRow(ZYDIS_MNEMONIC_CPUID) { (processor, _) throws(GuestFault) in
      let cpu = processor.cpu
      let answer = processor.model.identify(
        UInt32(truncatingIfNeeded: cpu.pointee.gpr.0), UInt32(truncatingIfNeeded: cpu.pointee.gpr.1), cpu)
      cpu.pointee.gpr.0 = UInt64(answer.eax)
      cpu.pointee.gpr.1 = UInt64(answer.ecx)
      cpu.pointee.gpr.2 = UInt64(answer.edx)
      cpu.pointee.gpr.3 = UInt64(answer.ebx)
      return .next
    },
    InstructionRow(ZYDIS_MNEMONIC_RDFSBASE) { (processor, op) throws(GuestFault) in
      try readBase(processor, op, processor.cpu.pointee.segments.4.base)
    },
    InstructionRow(ZYDIS_MNEMONIC_RDGSBASE) { (processor, op) throws(GuestFault) in
      try readBase(processor, op, processor.cpu.pointee.segments.5.base)
    },
    InstructionRow(ZYDIS_MNEMONIC_WRFSBASE) { (processor, op) throws(GuestFault) in
      processor.cpu.pointee.segments.4.base = try newBase(processor, op)
      return .next
    },
    InstructionRow(ZYDIS_MNEMONIC_WRGSBASE) { (processor, op) throws(GuestFault) in
      processor.cpu.pointee.segments.5.base = try newBase(processor, op)
      return .next
    },
    InstructionRow(ZYDIS_MNEMONIC_SWAPGS, .privileged) { (processor, _) throws(GuestFault) in
      let cpu = processor.cpu
      let base = cpu.pointee.segments.5.base
      cpu.pointee.segments.5.base = cpu.pointee.kernelGSBase
      cpu.pointee.kernelGSBase = base
      return .next
    },
  ]

  @inline(__always)
  private static func readBase(_ processor: SoftwareProcessor, _ op: Op, _ base: UInt64) throws(GuestFault) -> Flow {
    guard processor.cpu.pointee.cr4 & CR4.fsgsbase != 0 else { throw .invalidOpcode }
    processor.setRegister(op.pointee.destination, op.pointee.size == 8 ? base : base & 0xffff_ffff)
    return .next
  }

  @inline(__always)
  private static func newBase(_ processor: SoftwareProcessor, _ op: Op) throws(GuestFault) -> UInt64 {
    guard processor.cpu.pointee.cr4 & CR4.fsgsbase != 0 else { throw .invalidOpcode }
    let base = processor.register(op.pointee.destination, as: UInt64.self)
    guard op.pointee.size == 8 else { return base & 0xffff_ffff }
    guard processor.isCanonicalForModel(base) else { throw .generalProtection() }
    return base
  }
}
