import CHost
import CZydis
import X86

/// RDMSR, WRMSR, RDTSC, RDTSCP, RDPMC and RDPID. What the registers are is in `SoftwareProcessor+MSRRead` and `+MSRWrite`.
enum ModelSpecificRegisters {
  static let rows: [InstructionRow] = [
    InstructionRow(ZYDIS_MNEMONIC_RDMSR, .privileged) { (processor, _) throws(GuestFault) in
      let index = UInt32(truncatingIfNeeded: processor.cpu.pointee.gpr.1)
      setPair(processor, try processor.readMSR(index))
      return .next
    },
    InstructionRow(ZYDIS_MNEMONIC_WRMSR, .privileged) { (processor, op) throws(GuestFault) in
      let cpu = processor.cpu
      let index = UInt32(truncatingIfNeeded: cpu.pointee.gpr.1)
      try processor.writeMSR(index, cpu.pointee.gpr.0 & 0xffff_ffff | cpu.pointee.gpr.2 << 32)
      return index == ModelSpecificRegister.efer ? processor.continueBehind(op) : .next
    },
    InstructionRow(ZYDIS_MNEMONIC_RDTSC) { (processor, _) throws(GuestFault) in
      try checkTimeStampAccess(processor)
      setPair(processor, try processor.timeStamp())
      return .next
    },
    InstructionRow(ZYDIS_MNEMONIC_RDTSCP) { (processor, _) throws(GuestFault) in
      try checkTimeStampAccess(processor)
      setPair(processor, try processor.timeStamp())
      processor.cpu.pointee.gpr.1 = processor.cpu.pointee.tscAux & 0xffff_ffff
      return .next
    },
    InstructionRow(ZYDIS_MNEMONIC_RDPID) { (processor, op) throws(GuestFault) in
      processor.setRegister(op.pointee.destination, processor.cpu.pointee.tscAux & 0xffff_ffff)
      return .next
    },
    // There are no performance counters.
    InstructionRow(ZYDIS_MNEMONIC_RDPMC) { (_, _) throws(GuestFault) in throw .generalProtection() },
  ]

  /// EDX:EAX.
  @inline(__always)
  private static func setPair(_ processor: SoftwareProcessor, _ value: UInt64) {
    processor.cpu.pointee.gpr.0 = value & 0xffff_ffff
    processor.cpu.pointee.gpr.2 = value >> 32
  }

  @inline(__always)
  private static func checkTimeStampAccess(_ processor: SoftwareProcessor) throws(GuestFault) {
    if processor.cpu.pointee.cr4 & CR4.tsd != 0, processor.cpu.pointee.cpl != 0 { throw .generalProtection() }
  }
}

extension SoftwareProcessor {
  /// The guest's time-stamp counter.
  @inline(__always)
  func timeStamp() throws(GuestFault) -> UInt64 {
    if cpu.pointee.intercepts.rawValue & CPUIntercepts.timeStampCounter.rawValue != 0 {
      return try answer(to: .timeStampRead)
    }
    return hostTimeStamp() &+ cpu.pointee.tscOffset
  }
}
