import CHost
import CZydis
import X86

/// LAR, LSL, VERR, VERW and ARPL: what a program may learn of selectors. All answer by ZF; #UD in real-address and
/// virtual-8086 mode.
enum DescriptorInspection {
  static let rows: [InstructionRow] = [
    InstructionRow(ZYDIS_MNEMONIC_LAR, loadAccessRights),
    InstructionRow(ZYDIS_MNEMONIC_LSL, loadLimit),
    InstructionRow(ZYDIS_MNEMONIC_VERR) { (processor, op) throws(GuestFault) in
      try verify(processor, op) { $0.isReadable }
    },
    InstructionRow(ZYDIS_MNEMONIC_VERW) { (processor, op) throws(GuestFault) in
      try verify(processor, op) { $0.isWritableData }
    },
    InstructionRow(ZYDIS_MNEMONIC_ARPL, adjustRPL),
  ]

  /// The descriptor of a selector that is not null and inside its table; nil otherwise.
  private static func descriptor(_ processor: SoftwareProcessor, _ selector: UInt16) throws(GuestFault) -> Descriptor? {
    guard selector & 0xfffc != 0 else { return nil }
    let cpu = processor.cpu
    let last = UInt32(selector & 0xfff8) + 7
    let isLocal = selector & 4 != 0
    if isLocal, cpu.pointee.ldtr.attributes & SegmentAttributes.present == 0 { return nil }
    guard last <= (isLocal ? cpu.pointee.ldtr.limit : cpu.pointee.gdtr.limit) else { return nil }
    return try processor.readDescriptor(selector, orThrow: .generalProtection())
  }

  /// Whether CPL and RPL may see the descriptor.
  private static func isVisible(_ processor: SoftwareProcessor, _ descriptor: Descriptor, _ selector: UInt16) -> Bool {
    let rpl = UInt8(truncatingIfNeeded: selector & 3)
    return descriptor.isConforming || (processor.cpu.pointee.cpl <= descriptor.dpl && rpl <= descriptor.dpl)
  }

  /// System types that LAR accepts; LSL those of them that have a limit.
  private static func isValidSystemType(_ processor: SoftwareProcessor, _ type: UInt8, hasLimit: Bool) -> Bool {
    switch type {
    case SystemType.ldt, SystemType.availableTSS, SystemType.busyTSS: true
    case SystemType.availableTSS16, SystemType.busyTSS16: !processor.isLongMode
    case SystemType.callGate: !hasLimit
    case SystemType.callGate16, SystemType.taskGate: !hasLimit && !processor.isLongMode
    default: false
    }
  }

  private static func accessible(_ processor: SoftwareProcessor, _ op: Op, needsLimit: Bool) throws(GuestFault)
    -> Descriptor?
  {
    guard !processor.usesParagraphs else { throw .invalidOpcode }
    let selector = try processor.secondOperand(op, as: UInt16.self)
    guard let descriptor = try descriptor(processor, selector) else { return nil }
    let isSegment = descriptor.type & 0x10 != 0
    guard isSegment || isValidSystemType(processor, descriptor.type, hasLimit: needsLimit) else { return nil }
    return isVisible(processor, descriptor, selector) ? descriptor : nil
  }

  private static func store(_ processor: SoftwareProcessor, _ op: Op, _ value: UInt32?) -> Flow {
    guard let value else {
      processor.setFlags(RFLAGS.zf, 0)
      return .next
    }
    if op.pointee.size == 2 {
      processor.setRegister(op.pointee.destination, UInt16(truncatingIfNeeded: value))
    } else {
      processor.setRegister(op.pointee.destination, UInt64(value))
    }
    processor.setFlags(RFLAGS.zf, RFLAGS.zf)
    return .next
  }

  static func loadAccessRights(_ processor: SoftwareProcessor, _ op: Op) throws(GuestFault) -> Flow {
    let descriptor = try accessible(processor, op, needsLimit: false)
    return store(processor, op, descriptor.map { UInt32(truncatingIfNeeded: $0.raw >> 32) & 0x00ff_ff00 })
  }

  static func loadLimit(_ processor: SoftwareProcessor, _ op: Op) throws(GuestFault) -> Flow {
    let descriptor = try accessible(processor, op, needsLimit: true)
    return store(processor, op, descriptor?.limit)
  }

  private static func verify(_ processor: SoftwareProcessor, _ op: Op, _ hasRight: (Descriptor) -> Bool)
    throws(GuestFault) -> Flow
  {
    guard !processor.usesParagraphs else { throw .invalidOpcode }
    let selector = try processor.firstOperand(op, as: UInt16.self)
    var holds = false
    if let descriptor = try descriptor(processor, selector) {
      holds = isVisible(processor, descriptor, selector) && hasRight(descriptor)
    }
    processor.setFlags(RFLAGS.zf, holds ? RFLAGS.zf : 0)
    return .next
  }

  /// Raises the RPL of the first operand to the second's.
  static func adjustRPL(_ processor: SoftwareProcessor, _ op: Op) throws(GuestFault) -> Flow {
    guard !processor.usesParagraphs else { throw .invalidOpcode }
    let wanted = try processor.secondOperand(op, as: UInt16.self) & 3
    let old = try processor.firstOperand(op, as: UInt16.self)
    guard old & 3 < wanted else {
      processor.setFlags(RFLAGS.zf, 0)
      return .next
    }
    try processor.setFirstOperand(op, old & ~3 | wanted)
    processor.setFlags(RFLAGS.zf, RFLAGS.zf)
    return .next
  }
}
