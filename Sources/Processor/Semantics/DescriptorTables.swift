import CHost
import CZydis
import X86

/// LGDT, LIDT, SGDT, SIDT, LLDT, LTR, SLDT and STR.
enum DescriptorTables {
  static let rows: [InstructionRow] = [
    InstructionRow(ZYDIS_MNEMONIC_LGDT, .privileged) { (processor, op) throws(GuestFault) in
      processor.cpu.pointee.gdtr = try loadTable(processor, op)
      return .next
    },
    InstructionRow(ZYDIS_MNEMONIC_LIDT, .privileged) { (processor, op) throws(GuestFault) in
      processor.cpu.pointee.idtr = try loadTable(processor, op)
      return .next
    },
    InstructionRow(ZYDIS_MNEMONIC_SGDT) { (processor, op) throws(GuestFault) in
      try storeTable(processor, op, processor.cpu.pointee.gdtr)
    },
    InstructionRow(ZYDIS_MNEMONIC_SIDT) { (processor, op) throws(GuestFault) in
      try storeTable(processor, op, processor.cpu.pointee.idtr)
    },
    InstructionRow(ZYDIS_MNEMONIC_LLDT, loadLocalTable),
    InstructionRow(ZYDIS_MNEMONIC_LTR, loadTask),
    InstructionRow(ZYDIS_MNEMONIC_SLDT) { (processor, op) throws(GuestFault) in
      try storeSelector(processor, op, processor.cpu.pointee.ldtr.selector)
    },
    InstructionRow(ZYDIS_MNEMONIC_STR) { (processor, op) throws(GuestFault) in
      try storeSelector(processor, op, processor.cpu.pointee.tr.selector)
    },
  ]

  /// Limit, then base: 8 bytes of it in 64-bit mode, 3 with 16-bit operands.
  private static func loadTable(_ processor: SoftwareProcessor, _ op: Op) throws(GuestFault) -> DescriptorTableState {
    let is64 = processor.isLongMode64
    let area = try GuestArea(processor, op, .pair(2), count: is64 ? 10 : 6, for: .read)
    let limit: UInt16 = try area.load(0)
    var base: UInt64
    if is64 {
      base = try area.load(2)
      guard processor.isCanonicalForModel(base) else { throw .generalProtection() }
    } else {
      base = UInt64(try area.load(2, as: UInt32.self))
      if op.pointee.sourceSize == 2 { base &= 0xff_ffff }
    }
    return DescriptorTableState(base: base, limit: UInt32(limit), reserved: 0)
  }

  /// All four bytes of the base are stored with 16-bit operands too, as processors since the 386 do.
  private static func storeTable(_ processor: SoftwareProcessor, _ op: Op, _ table: DescriptorTableState)
    throws(GuestFault) -> Flow
  {
    try processor.checkUserInstructionPrevention()
    let is64 = processor.isLongMode64
    var area = try GuestArea(processor, op, .pair(2), count: is64 ? 10 : 6, for: .write)
    try area.checkWritable()
    try area.store(UInt16(truncatingIfNeeded: table.limit), 0)
    if is64 {
      try area.store(table.base, 2)
    } else {
      try area.store(UInt32(truncatingIfNeeded: table.base), 2)
    }
    return .next
  }

  /// A register operand takes the selector zero-extended, memory 16 bits of it.
  private static func storeSelector(_ processor: SoftwareProcessor, _ op: Op, _ selector: UInt16) throws(GuestFault)
    -> Flow
  {
    guard !processor.usesParagraphs else { throw .invalidOpcode }
    try processor.checkUserInstructionPrevention()
    return try processor.storeSystemWord(op, UInt64(selector))
  }

  /// #UD in real-address and virtual-8086 mode, #GP(0) above CPL 0.
  private static func checkRing0(_ processor: SoftwareProcessor) throws(GuestFault) {
    guard !processor.usesParagraphs else { throw .invalidOpcode }
    guard processor.cpu.pointee.cpl == 0 else { throw .generalProtection() }
  }

  /// Base, with the upper half of a 16-byte descriptor in IA-32e mode: #GP with the selector.
  private static func systemBase(_ processor: SoftwareProcessor, _ descriptor: Descriptor, _ selector: UInt16)
    throws(GuestFault) -> UInt64
  {
    guard processor.isLongMode else { return descriptor.base }
    let fault = GuestFault.generalProtection(selectorError(selector))
    let upper = try processor.readUpperHalf(of: descriptor, selector, orThrow: fault)
    let base = descriptor.base | upper << 32
    guard processor.isCanonicalForModel(base) else { throw fault }
    return base
  }

  static func loadLocalTable(_ processor: SoftwareProcessor, _ op: Op) throws(GuestFault) -> Flow {
    try checkRing0(processor)
    let selector = try processor.firstOperand(op, as: UInt16.self)
    guard selector & 0xfffc != 0 else {
      processor.cpu.pointee.ldtr = SegmentState(base: 0, limit: 0, selector: selector, attributes: 0)
      return .next
    }
    let fault = GuestFault.generalProtection(selectorError(selector))
    guard selector & 4 == 0 else { throw fault }
    let descriptor = try processor.readDescriptor(selector, orThrow: fault)
    guard descriptor.type == SystemType.ldt else { throw fault }
    guard descriptor.isPresent else { throw .segmentNotPresent(selectorError(selector)) }
    processor.cpu.pointee.ldtr = SegmentState(
      base: try systemBase(processor, descriptor, selector), limit: descriptor.limit, selector: selector,
      attributes: descriptor.attributes)
    return .next
  }

  static func loadTask(_ processor: SoftwareProcessor, _ op: Op) throws(GuestFault) -> Flow {
    try checkRing0(processor)
    let selector = try processor.firstOperand(op, as: UInt16.self)
    guard selector & 0xfffc != 0 else { throw .generalProtection() }
    let fault = GuestFault.generalProtection(selectorError(selector))
    guard selector & 4 == 0 else { throw fault }
    let descriptor = try processor.readDescriptor(selector, orThrow: fault)
    let is16 = descriptor.type == SystemType.availableTSS16 && !processor.isLongMode
    guard descriptor.type == SystemType.availableTSS || is16 else { throw fault }
    guard descriptor.isPresent else { throw .segmentNotPresent(selectorError(selector)) }
    let base = try systemBase(processor, descriptor, selector)
    try processor.setTypeBits(of: descriptor, set: SystemType.busyBit, clear: 0)
    processor.cpu.pointee.tr = SegmentState(
      base: base, limit: descriptor.limit, selector: selector,
      attributes: descriptor.attributes | UInt16(SystemType.busyBit))
    return .next
  }
}

extension SoftwareProcessor {
  /// SGDT, SIDT, SLDT, STR and SMSW under CR4.UMIP: #GP(0) above CPL 0.
  @inline(__always)
  func checkUserInstructionPrevention() throws(GuestFault) {
    if cpu.pointee.cpl > 0, cpu.pointee.cr4 & CR4.umip != 0 { throw .generalProtection() }
  }

  /// Stores 16 bits in memory, or as many as the operand has in a register.
  func storeSystemWord(_ op: Op, _ value: UInt64) throws(GuestFault) -> Flow {
    if op.pointee.flags & OperationFlags.memoryFirst.rawValue != 0 {
      try setFirstOperand(op, UInt16(truncatingIfNeeded: value))
    } else {
      switch op.pointee.size {
      case 2: setRegister(op.pointee.destination, UInt16(truncatingIfNeeded: value))
      case 4: setRegister(op.pointee.destination, UInt32(truncatingIfNeeded: value))
      default: setRegister(op.pointee.destination, value)
      }
    }
    return .next
  }
}
