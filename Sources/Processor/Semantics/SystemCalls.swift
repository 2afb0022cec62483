import CHost
import CZydis
import X86

/// SYSCALL, SYSRET, SYSENTER and SYSEXIT (SDM vol. 2B; APM vol. 3 where AMD differs: SYSCALL and SYSRET outside 64-bit mode
/// are AMD's, SYSENTER and SYSEXIT in IA-32e mode Intel's).
///
/// They read no descriptors: CS and SS get fixed hidden parts. SYSCALL and SYSRET are hot.
enum SystemCalls {
  static let rows: [InstructionRow] = [
    InstructionRow(ZYDIS_MNEMONIC_SYSCALL, .endsBlock, call),
    InstructionRow(ZYDIS_MNEMONIC_SYSRET, .endsBlock, `return`),
    InstructionRow(ZYDIS_MNEMONIC_SYSENTER, .endsBlock, enter),
    InstructionRow(ZYDIS_MNEMONIC_SYSEXIT, .endsBlock, exit),
  ]

  /// Accessed read-execute code and read-write data, present, S set; DPL is added.
  static let longCode: UInt16 = 0xa09b
  private static let code32: UInt16 = 0xc09b
  static let data: UInt16 = 0xc093
  static let ring3: UInt16 = 3 << 5
  /// What SYSRET takes from R11.
  static let returnedFlags: UInt64 = 0x3c_7fd7

  @inline(__always)
  private static func flat(_ selector: UInt16, _ attributes: UInt16) -> SegmentState {
    SegmentState(base: 0, limit: 0xffff_ffff, selector: selector, attributes: attributes)
  }

  static func call(_ processor: SoftwareProcessor, _ op: Op) throws(GuestFault) -> Flow {
    let cpu = processor.cpu
    guard cpu.pointee.efer & EFER.sce != 0 else { throw .invalidOpcode }
    let next = processor.nextAddress(after: op)
    if !processor.isLongMode64 { return try callOutside64BitMode(processor, next & 0xffff_ffff) }
    let flags = cpu.pointee.rflags & ~RFLAGS.rf
    cpu.pointee.gpr.1 = next
    cpu.pointee.gpr.11 = flags
    cpu.pointee.rip = cpu.pointee.lstar
    finishCall(processor, flags & ~cpu.pointee.fmask, longCode)
    return .branch
  }

  /// The kernel's CS and SS, the new flags and CPL 0. Whether the SYSCALL is single-stepped is decided by the new TF.
  @inline(__always)
  private static func finishCall(_ processor: SoftwareProcessor, _ flags: UInt64, _ code: UInt16) {
    let cpu = processor.cpu
    let selector = UInt16(truncatingIfNeeded: cpu.pointee.star &>> 32) & 0xfffc
    cpu.pointee.rflags = flags | RFLAGS.fixed
    cpu.pointee.segments.1 = flat(selector, code)
    cpu.pointee.segments.2 = flat(selector &+ 8, data)
    cpu.pointee.cpl = 0
    processor.events.isSingleStep = flags & RFLAGS.tf != 0
    processor.modeChanged()
  }

  private static func callOutside64BitMode(_ processor: SoftwareProcessor, _ next: UInt64) throws(GuestFault) -> Flow {
    let cpu = processor.cpu
    guard processor.model.vendor == .amd, processor.isProtectedMode, !processor.isVirtual8086 else {
      throw .invalidOpcode
    }
    let flags = cpu.pointee.rflags & ~RFLAGS.rf
    cpu.pointee.gpr.1 = next
    if processor.isLongMode {
      cpu.pointee.gpr.11 = flags
      cpu.pointee.rip = cpu.pointee.cstar
      finishCall(processor, flags & ~cpu.pointee.fmask, longCode)
    } else {
      cpu.pointee.rip = cpu.pointee.star & 0xffff_ffff
      finishCall(processor, flags & ~(RFLAGS.if | RFLAGS.vm), code32)
    }
    return .branch
  }

  static func `return`(_ processor: SoftwareProcessor, _ op: Op) throws(GuestFault) -> Flow {
    let cpu = processor.cpu
    guard cpu.pointee.efer & EFER.sce != 0 else { throw .invalidOpcode }
    let is64BitMode = processor.isLongMode64
    guard is64BitMode || processor.model.vendor == .amd else { throw .invalidOpcode }
    guard processor.isProtectedMode, cpu.pointee.cpl == 0 else { throw .generalProtection() }
    let base = UInt16(truncatingIfNeeded: cpu.pointee.star &>> 48)
    let returnsTo64 = is64BitMode && op.pointee.size == 8
    let target = returnsTo64 ? cpu.pointee.gpr.1 : cpu.pointee.gpr.1 & 0xffff_ffff
    // A check in ring 0 that Intel makes; AMD's fault comes with the first fetch, in ring 3.
    guard processor.isCanonical(target) || processor.model.vendor == .amd else { throw .generalProtection() }

    let oldFlags = cpu.pointee.rflags
    let flags = is64BitMode ? cpu.pointee.gpr.11 & returnedFlags | RFLAGS.fixed : oldFlags | RFLAGS.if
    cpu.pointee.rip = target
    cpu.pointee.rflags = flags
    cpu.pointee.segments.1 =
      returnsTo64 ? flat((base &+ 16) | 3, longCode | ring3) : flat(base | 3, code32 | ring3)
    cpu.pointee.segments.2 = flat((base &+ 8) | 3, data | ring3)
    cpu.pointee.cpl = 3
    processor.events.isSingleStep = flags & RFLAGS.tf != 0
    processor.modeChanged()
    return flags & ~oldFlags & RFLAGS.if != 0 && processor.hasWaitingEvents ? .branchAndSerialize : .branch
  }

  static func enter(_ processor: SoftwareProcessor, _ op: Op) throws(GuestFault) -> Flow {
    let cpu = processor.cpu
    guard !(processor.isLongMode && processor.model.vendor == .amd) else { throw .invalidOpcode }
    let selector = UInt16(truncatingIfNeeded: cpu.pointee.sysenterCS) & 0xfffc
    guard processor.isProtectedMode, selector != 0 else { throw .generalProtection() }
    let isLong = processor.isLongMode
    let mask: UInt64 = isLong ? ~0 : 0xffff_ffff
    cpu.pointee.rflags &= ~(RFLAGS.vm | RFLAGS.if | RFLAGS.rf)
    cpu.pointee.gpr.4 = cpu.pointee.sysenterESP & mask
    cpu.pointee.rip = cpu.pointee.sysenterEIP & mask
    cpu.pointee.segments.1 = flat(selector, isLong ? longCode : code32)
    cpu.pointee.segments.2 = flat(selector &+ 8, data)
    cpu.pointee.cpl = 0
    processor.modeChanged()
    return .branch
  }

  static func exit(_ processor: SoftwareProcessor, _ op: Op) throws(GuestFault) -> Flow {
    let cpu = processor.cpu
    guard !(processor.isLongMode && processor.model.vendor == .amd) else { throw .invalidOpcode }
    let base = UInt16(truncatingIfNeeded: cpu.pointee.sysenterCS) & 0xfffc
    guard processor.isProtectedMode, base != 0, cpu.pointee.cpl == 0 else { throw .generalProtection() }
    let returnsTo64 = op.pointee.size == 8
    if returnsTo64 {
      guard processor.isCanonical(cpu.pointee.gpr.1), processor.isCanonical(cpu.pointee.gpr.2) else {
        throw .generalProtection()
      }
    }
    let mask: UInt64 = returnsTo64 ? ~0 : 0xffff_ffff
    let selector = base &+ (returnsTo64 ? 32 : 16)
    cpu.pointee.gpr.4 = cpu.pointee.gpr.1 & mask
    cpu.pointee.rip = cpu.pointee.gpr.2 & mask
    cpu.pointee.segments.1 = flat(selector | 3, (returnsTo64 ? longCode : code32) | ring3)
    cpu.pointee.segments.2 = flat((selector &+ 8) | 3, data | ring3)
    cpu.pointee.cpl = 3
    processor.modeChanged()
    return .branch
  }
}
