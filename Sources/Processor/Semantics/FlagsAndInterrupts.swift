import CHost
import CZydis
import X86

/// CLI, STI, PUSHF, POPF and the single-flag instructions, with the virtual interrupts of VME and PVI (SDM vol. 3B, 20.3
/// and 20.4).
enum FlagsAndInterrupts {
  static let rows: [InstructionRow] = [
    InstructionRow(ZYDIS_MNEMONIC_CLI, clearInterrupts),
    InstructionRow(ZYDIS_MNEMONIC_STI, setInterrupts),
    InstructionRow(ZYDIS_MNEMONIC_PUSHF) { (processor, _) throws(GuestFault) in try pushFlags(processor, size: 2) },
    InstructionRow(ZYDIS_MNEMONIC_PUSHFD) { (processor, _) throws(GuestFault) in try pushFlags(processor, size: 4) },
    InstructionRow(ZYDIS_MNEMONIC_PUSHFQ) { (processor, _) throws(GuestFault) in try pushFlags(processor, size: 8) },
    InstructionRow(ZYDIS_MNEMONIC_POPF) { (processor, op) throws(GuestFault) in
      try popFlags(processor, op, size: 2)
    },
    InstructionRow(ZYDIS_MNEMONIC_POPFD) { (processor, op) throws(GuestFault) in
      try popFlags(processor, op, size: 4)
    },
    InstructionRow(ZYDIS_MNEMONIC_POPFQ) { (processor, op) throws(GuestFault) in
      try popFlags(processor, op, size: 8)
    },
    InstructionRow(ZYDIS_MNEMONIC_LAHF) { (processor, _) throws(GuestFault) in
      processor.setRegister(1, UInt8(truncatingIfNeeded: processor.cpu.pointee.rflags))
      return .next
    },
    InstructionRow(ZYDIS_MNEMONIC_SAHF) { (processor, _) throws(GuestFault) in
      let mask = RFLAGS.sf | RFLAGS.zf | RFLAGS.af | RFLAGS.pf | RFLAGS.cf
      processor.setFlags(mask, UInt64(processor.register(1, as: UInt8.self)) & mask)
      return .next
    },
    InstructionRow(ZYDIS_MNEMONIC_CLC) { (processor, _) throws(GuestFault) in change(processor, RFLAGS.cf, 0) },
    InstructionRow(ZYDIS_MNEMONIC_STC) { (processor, _) throws(GuestFault) in change(processor, 0, RFLAGS.cf) },
    InstructionRow(ZYDIS_MNEMONIC_CMC) { (processor, _) throws(GuestFault) in
      processor.cpu.pointee.rflags ^= RFLAGS.cf
      return .next
    },
    InstructionRow(ZYDIS_MNEMONIC_CLD) { (processor, _) throws(GuestFault) in change(processor, RFLAGS.df, 0) },
    InstructionRow(ZYDIS_MNEMONIC_STD) { (processor, _) throws(GuestFault) in change(processor, 0, RFLAGS.df) },
    InstructionRow(ZYDIS_MNEMONIC_CLAC) { (processor, _) throws(GuestFault) in try setAccess(processor, 0) },
    InstructionRow(ZYDIS_MNEMONIC_STAC) { (processor, _) throws(GuestFault) in try setAccess(processor, RFLAGS.ac) },
  ]

  @inline(__always)
  private static func change(_ processor: SoftwareProcessor, _ cleared: UInt64, _ set: UInt64) -> Flow {
    processor.cpu.pointee.rflags = processor.cpu.pointee.rflags & ~cleared | set
    return .next
  }

  /// CLAC and STAC: #UD above CPL 0. Only the rights of data accesses change.
  private static func setAccess(_ processor: SoftwareProcessor, _ value: UInt64) throws(GuestFault) -> Flow {
    let cpu = processor.cpu
    guard cpu.pointee.cpl == 0 else { throw .invalidOpcode }
    cpu.pointee.rflags = cpu.pointee.rflags & ~RFLAGS.ac | value
    if cpu.pointee.cr4 & CR4.smap != 0 {
      cpu.pointee.engine.tlb = processor.translations.table(value == 0 ? .supervisor : .supervisorWithAC)
    }
    return .next
  }

  // MARK: IF

  /// What CLI and STI act on.
  private enum InterruptFlag {
    case real, virtual
  }

  /// #GP(0) where neither may be changed (SDM vol. 2A, CLI, table 3-7).
  @inline(__always)
  private static func interruptFlag(_ processor: SoftwareProcessor) throws(GuestFault) -> InterruptFlag {
    let cpu = processor.cpu
    if UInt64(cpu.pointee.cpl) <= cpu.pointee.rflags >> 12 & 3 { return .real }
    guard processor.isProtectedMode else { return .real }
    let usesVirtual =
      processor.isVirtual8086
      ? cpu.pointee.cr4 & CR4.vme != 0 : cpu.pointee.cr4 & CR4.pvi != 0 && cpu.pointee.cpl == 3
    guard usesVirtual else { throw .generalProtection() }
    return .virtual
  }

  static func clearInterrupts(_ processor: SoftwareProcessor, _ op: Op) throws(GuestFault) -> Flow {
    switch try interruptFlag(processor) {
    case .real: return change(processor, RFLAGS.if, 0)
    case .virtual: return change(processor, RFLAGS.vif, 0)
    }
  }

  /// Interrupts are taken after the next instruction at the earliest, if they were masked.
  static func setInterrupts(_ processor: SoftwareProcessor, _ op: Op) throws(GuestFault) -> Flow {
    let cpu = processor.cpu
    switch try interruptFlag(processor) {
    case .real:
      guard cpu.pointee.rflags & RFLAGS.if == 0 else {
        // One that was cast here before, over the same instruction, is over.
        cpu.pointee.interruptShadow = []
        return .next
      }
      cpu.pointee.rflags |= RFLAGS.if
      processor.castShadow(.STI, behind: op)
      return processor.hasWaitingEvents ? .serialize : .next
    case .virtual:
      guard cpu.pointee.rflags & RFLAGS.vip == 0 else { throw .generalProtection() }
      return change(processor, 0, RFLAGS.vif)
    }
  }

  // MARK: PUSHF and POPF

  /// VM and RF are pushed as zeros. Virtual-8086 code below IOPL 3 sees VIF as IF, under VME, and IOPL 3.
  private static func pushFlags(_ processor: SoftwareProcessor, size: Int) throws(GuestFault) -> Flow {
    var image = processor.cpu.pointee.rflags & ~(RFLAGS.vm | RFLAGS.rf)
    if processor.isVirtual8086, image & RFLAGS.iopl != RFLAGS.iopl {
      guard processor.cpu.pointee.cr4 & CR4.vme != 0, size == 2 else { throw .generalProtection() }
      image = image & ~RFLAGS.if | RFLAGS.iopl | (image & RFLAGS.vif != 0 ? RFLAGS.if : 0)
    }
    try processor.push(image, size: size)
    return .next
  }

  private static func popFlags(_ processor: SoftwareProcessor, _ op: Op, size: Int) throws(GuestFault) -> Flow {
    let cpu = processor.cpu
    let old = cpu.pointee.rflags
    var mask = RFLAGS.arithmetic | RFLAGS.tf | RFLAGS.df | RFLAGS.nt
    if size > 2 { mask |= RFLAGS.ac | RFLAGS.id }
    var image: UInt64
    if processor.isVirtual8086, old & RFLAGS.iopl != RFLAGS.iopl {
      guard cpu.pointee.cr4 & CR4.vme != 0, size == 2 else { throw .generalProtection() }
      image = try processor.peekStack(0, size: size)
      let opens = image & RFLAGS.if != 0 && old & RFLAGS.vip != 0
      guard !opens, image & RFLAGS.tf == 0 else { throw .generalProtection() }
      mask |= RFLAGS.vif
      if image & RFLAGS.if != 0 { image |= RFLAGS.vif }
    } else {
      image = try processor.peekStack(0, size: size)
      if cpu.pointee.cpl == 0 {
        mask |= RFLAGS.if | RFLAGS.iopl
      } else if UInt64(cpu.pointee.cpl) <= old >> 12 & 3 {
        mask |= RFLAGS.if
      }
    }
    processor.stackPointer = processor.stackPointer &+ UInt64(size)
    let flags = old & ~(mask | RFLAGS.rf) | image & mask
    cpu.pointee.rflags = flags
    let serializes = flags & ~old & RFLAGS.if != 0 && processor.hasWaitingEvents
    if (flags ^ old) & (RFLAGS.tf | RFLAGS.ac) != 0 { return processor.flow(after: op, serializes: serializes) }
    return serializes ? .serialize : .next
  }
}
