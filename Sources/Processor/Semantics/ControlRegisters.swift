import CHost
import CZydis
import X86

/// MOV of control and debug registers, CLTS, LMSW, SMSW, XGETBV, XSETBV, RDPKRU and WRPKRU.
enum ControlRegisters {
  static let rows: [InstructionRow] = [
    InstructionRow(ZYDIS_MNEMONIC_MOV, operands: .control, [.endsBlock, .privileged], moveControl),
    InstructionRow(ZYDIS_MNEMONIC_MOV, operands: .debug, .endsBlock, moveDebug),
    InstructionRow(ZYDIS_MNEMONIC_CLTS, [.endsBlock, .privileged]) { (processor, op) throws(GuestFault) in
      processor.cpu.pointee.cr0 &= ~CR0.ts
      return processor.flow(after: op)
    },
    InstructionRow(ZYDIS_MNEMONIC_LMSW, [.endsBlock, .privileged], loadMachineStatus),
    InstructionRow(ZYDIS_MNEMONIC_SMSW) { (processor, op) throws(GuestFault) in
      try processor.checkUserInstructionPrevention()
      return try processor.storeSystemWord(op, processor.cpu.pointee.cr0)
    },
    InstructionRow(ZYDIS_MNEMONIC_XGETBV, getExtendedControl),
    InstructionRow(ZYDIS_MNEMONIC_XSETBV, .endsBlock, setExtendedControl),
    InstructionRow(ZYDIS_MNEMONIC_RDPKRU, readProtectionKeys),
    InstructionRow(ZYDIS_MNEMONIC_WRPKRU, writeProtectionKeys),
  ]

  /// A general register of the processor's own width, which these instructions take whatever the operand size.
  @inline(__always)
  private static func value(_ processor: SoftwareProcessor, _ offset: UInt8) -> UInt64 {
    processor.isLongMode64
      ? processor.register(offset, as: UInt64.self) : UInt64(processor.register(offset, as: UInt32.self))
  }

  @inline(__always)
  private static func setValue(_ processor: SoftwareProcessor, _ offset: UInt8, _ value: UInt64) {
    processor.setRegister(offset, processor.isLongMode64 ? value : value & 0xffff_ffff)
  }

  // MARK: Control registers

  static func moveControl(_ processor: SoftwareProcessor, _ op: Op) throws(GuestFault) -> Flow {
    let cpu = processor.cpu
    guard op.pointee.detail == 0 else {
      let value: UInt64
      switch op.pointee.source {
      case 0: value = cpu.pointee.cr0
      case 2: value = cpu.pointee.cr2
      case 3: value = cpu.pointee.cr3
      case 4: value = cpu.pointee.cr4
      case 8: value = cpu.pointee.cr8
      default: throw .invalidOpcode
      }
      setValue(processor, op.pointee.destination, value)
      return .next
    }
    let value = value(processor, op.pointee.source)
    switch op.pointee.destination {
    case 3: try processor.setCR3(value)
    case 0: try processor.setCR0(value)
    case 4: try processor.setCR4(value)
    case 2:
      cpu.pointee.cr2 = value
      return .next
    case 8:
      try processor.setCR8(value)
      return .next
    default: throw .invalidOpcode
    }
    return processor.continueBehind(op)
  }

  /// Changes PE (to set it), MP, EM and TS.
  static func loadMachineStatus(_ processor: SoftwareProcessor, _ op: Op) throws(GuestFault) -> Flow {
    let word = UInt64(try processor.firstOperand(op, as: UInt16.self))
    let old = processor.cpu.pointee.cr0
    try processor.setCR0(old & ~0xe | word & 0xf)
    return processor.continueBehind(op)
  }

  // MARK: Debug registers

  static func moveDebug(_ processor: SoftwareProcessor, _ op: Op) throws(GuestFault) -> Flow {
    let cpu = processor.cpu
    let isWrite = op.pointee.detail == 0
    var number = isWrite ? op.pointee.destination : op.pointee.source
    if number == 4 || number == 5 {
      guard cpu.pointee.cr4 & CR4.de == 0 else { throw .invalidOpcode }
      number += 2
    }
    guard number < 8 else { throw .invalidOpcode }
    guard cpu.pointee.cpl == 0 else { throw .generalProtection() }
    guard cpu.pointee.dr7 & DebugControl.generalDetect == 0 else { throw .debug(DebugStatus.accessDetected) }
    guard isWrite else {
      let value =
        switch number {
        case 0: cpu.pointee.dr.0
        case 1: cpu.pointee.dr.1
        case 2: cpu.pointee.dr.2
        case 3: cpu.pointee.dr.3
        case 6: cpu.pointee.dr6
        default: cpu.pointee.dr7
        }
      setValue(processor, op.pointee.destination, value)
      return .next
    }
    let value = value(processor, op.pointee.source)
    switch number {
    case 0: cpu.pointee.dr.0 = value
    case 1: cpu.pointee.dr.1 = value
    case 2: cpu.pointee.dr.2 = value
    case 3: cpu.pointee.dr.3 = value
    case 6:
      guard value >> 32 == 0 else { throw .generalProtection() }
      cpu.pointee.dr6 = value & 0xe00f | DebugStatus.fixed
      return .next
    default:
      guard value >> 32 == 0 else { throw .generalProtection() }
      let old = cpu.pointee.dr7
      cpu.pointee.dr7 = value & DebugControl.loadable | DebugControl.fixed
      if (old | value) & DebugControl.enables == 0 { return .next }
    }
    // Pages with breakpoints are kept out of the TLB.
    if cpu.pointee.dr7 & DebugControl.enables != 0 { processor.translations.flushAll() }
    processor.modeChanged()
    return processor.continueBehind(op)
  }

  // MARK: Extended state

  static func getExtendedControl(_ processor: SoftwareProcessor, _ op: Op) throws(GuestFault) -> Flow {
    let cpu = processor.cpu
    guard cpu.pointee.cr4 & CR4.osxsave != 0 else { throw .invalidOpcode }
    // XINUSE (register 1): every enabled component counts as in use.
    let index = cpu.pointee.gpr.1 & 0xffff_ffff
    guard index == 0 || (index == 1 && processor.model.features.contains(.xgetbv1)) else { throw .generalProtection() }
    cpu.pointee.gpr.0 = cpu.pointee.xcr0 & 0xffff_ffff
    cpu.pointee.gpr.2 = cpu.pointee.xcr0 >> 32
    return .next
  }

  static func setExtendedControl(_ processor: SoftwareProcessor, _ op: Op) throws(GuestFault) -> Flow {
    let cpu = processor.cpu
    guard cpu.pointee.cr4 & CR4.osxsave != 0 else { throw .invalidOpcode }
    guard cpu.pointee.cpl == 0, cpu.pointee.gpr.1 & 0xffff_ffff == 0 else { throw .generalProtection() }
    try processor.setXCR0(cpu.pointee.gpr.0 & 0xffff_ffff | cpu.pointee.gpr.2 << 32)
    return processor.continueBehind(op)
  }

  static func readProtectionKeys(_ processor: SoftwareProcessor, _ op: Op) throws(GuestFault) -> Flow {
    let cpu = processor.cpu
    guard cpu.pointee.cr4 & CR4.pke != 0 else { throw .invalidOpcode }
    guard cpu.pointee.gpr.1 & 0xffff_ffff == 0 else { throw .generalProtection() }
    cpu.pointee.gpr.0 = UInt64(cpu.pointee.pkru)
    cpu.pointee.gpr.2 = 0
    return .next
  }

  static func writeProtectionKeys(_ processor: SoftwareProcessor, _ op: Op) throws(GuestFault) -> Flow {
    let cpu = processor.cpu
    guard cpu.pointee.cr4 & CR4.pke != 0 else { throw .invalidOpcode }
    guard (cpu.pointee.gpr.1 | cpu.pointee.gpr.2) & 0xffff_ffff == 0 else { throw .generalProtection() }
    processor.setPKRU(UInt32(truncatingIfNeeded: cpu.pointee.gpr.0))
    return .next
  }
}
