import CHost
import CZydis
import X86

/// MOV, PUSH and POP of segment registers; LDS, LES, LFS, LGS and LSS.
enum SegmentLoads {
  static let rows: [InstructionRow] = [
    InstructionRow(ZYDIS_MNEMONIC_MOV, operands: .segment, [], move),
    InstructionRow(ZYDIS_MNEMONIC_PUSH, operands: .segment, [], push),
    InstructionRow(ZYDIS_MNEMONIC_POP, operands: .segment, [], pop),
    InstructionRow(ZYDIS_MNEMONIC_LDS) { (processor, op) throws(GuestFault) in try loadFar(processor, op, .ds) },
    InstructionRow(ZYDIS_MNEMONIC_LES) { (processor, op) throws(GuestFault) in try loadFar(processor, op, .es) },
    InstructionRow(ZYDIS_MNEMONIC_LFS) { (processor, op) throws(GuestFault) in try loadFar(processor, op, .fs) },
    InstructionRow(ZYDIS_MNEMONIC_LGS) { (processor, op) throws(GuestFault) in try loadFar(processor, op, .gs) },
    InstructionRow(ZYDIS_MNEMONIC_LSS) { (processor, op) throws(GuestFault) in try loadFar(processor, op, .ss) },
  ]

  static func move(_ processor: SoftwareProcessor, _ op: Op) throws(GuestFault) -> Flow {
    if op.pointee.detail == 0 {
      let number = Int(op.pointee.destination)
      try processor.loadSegment(number, processor.secondOperand(op, as: UInt16.self))
      if number == SegmentRegister.ss.rawValue {
        processor.castShadow(.movSS, behind: op)
      }
      return processor.flowAfterSegmentLoad(number, op)
    }
    let selector = processor.segment(Int(op.pointee.source)).selector
    if op.pointee.flags & OperationFlags.memoryFirst.rawValue != 0 {
      try processor.setFirstOperand(op, selector)
    } else {
      switch op.pointee.size {
      case 2: processor.setRegister(op.pointee.destination, selector)
      default: processor.setRegister(op.pointee.destination, UInt64(selector))
      }
    }
    return .next
  }

  /// The slot's upper bytes are written with zeros, as AMD has it (Intel leaves them alone).
  static func push(_ processor: SoftwareProcessor, _ op: Op) throws(GuestFault) -> Flow {
    let selector = processor.segment(Int(op.pointee.destination)).selector
    try processor.push(UInt64(selector), size: Int(op.pointee.sourceSize))
    return .next
  }

  static func pop(_ processor: SoftwareProcessor, _ op: Op) throws(GuestFault) -> Flow {
    let number = Int(op.pointee.destination)
    let size = Int(op.pointee.sourceSize)
    // The stack pointer moves by the old stack segment's width.
    let selector = UInt16(truncatingIfNeeded: try processor.peekStack(0, size: size))
    let pointer = processor.stackPointer &+ UInt64(size)
    let mask: UInt64 = processor.stackSize == 8 ? ~0 : processor.stackSize == 4 ? 0xffff_ffff : 0xffff
    try processor.loadSegment(number, selector)
    let old = processor.cpu.pointee.gpr.4
    processor.cpu.pointee.gpr.4 = mask == 0xffff ? old & ~0xffff | pointer & mask : pointer & mask
    if number == SegmentRegister.ss.rawValue {
      processor.castShadow(.movSS, behind: op)
    }
    return processor.flowAfterSegmentLoad(number, op)
  }

  /// A far pointer from memory: the offset, then the selector.
  private static func loadFar(_ processor: SoftwareProcessor, _ op: Op, _ register: SegmentRegister) throws(GuestFault)
    -> Flow
  {
    let (selector, offset) = try processor.farPointerOperand(op)
    try processor.loadSegment(register.rawValue, selector)
    switch op.pointee.size {
    case 2: processor.setRegister(op.pointee.destination, UInt16(truncatingIfNeeded: offset))
    case 4: processor.setRegister(op.pointee.destination, UInt32(truncatingIfNeeded: offset))
    default: processor.setRegister(op.pointee.destination, offset)
    }
    return processor.flowAfterSegmentLoad(register.rawValue, op)
  }
}

extension SoftwareProcessor {
  /// Loads ES, SS, DS, FS or GS with all checks (SDM vol. 2B, MOV): #GP, #SS and #NP with the selector, #PF; sets the
  /// descriptor's accessed bit. The mode is the caller's affair (`modeChanged`).
  func loadSegment(_ number: Int, _ selector: UInt16) throws(GuestFault) {
    if usesParagraphs { return loadParagraph(number, selector) }
    let isStack = number == SegmentRegister.ss.rawValue
    if selector & 0xfffc == 0 {
      guard !isStack else { return try loadNullStack(selector) }
      return setSegment(number, SegmentState(base: 0, limit: 0, selector: selector, attributes: 0))
    }
    let fault = GuestFault.generalProtection(selectorError(selector))
    let descriptor = try readDescriptor(selector, orThrow: fault)
    let rpl = UInt8(truncatingIfNeeded: selector & 3)
    let cpl = cpu.pointee.cpl
    if isStack {
      guard rpl == cpl, descriptor.isWritableData, descriptor.dpl == cpl else { throw fault }
      guard descriptor.isPresent else { throw .stackFault(selectorError(selector)) }
    } else {
      guard descriptor.isReadable, descriptor.isConforming || (rpl <= descriptor.dpl && cpl <= descriptor.dpl) else {
        throw fault
      }
      guard descriptor.isPresent else { throw .segmentNotPresent(selectorError(selector)) }
    }
    try setAccessed(descriptor)
    setSegment(number, descriptor.segment(selector: selector))
  }

  /// A null selector in SS: for 64-bit code of rings 0 to 2, with that ring as RPL.
  private func loadNullStack(_ selector: UInt16) throws(GuestFault) {
    guard isLongMode64, cpu.pointee.cpl < 3, selector & 3 == UInt16(cpu.pointee.cpl) else { throw .generalProtection() }
    cpu.pointee.segments.2 = Self.nullStackSegment(cpu.pointee.cpl)
  }

  /// Loads any segment register in real-address or virtual-8086 mode: the base is 16 times the selector. Real mode leaves
  /// limit and attributes, which may be those of protected mode; virtual-8086 mode sets them.
  @inline(__always)
  func loadParagraph(_ number: Int, _ selector: UInt16) {
    var state = segment(number)
    state.selector = selector
    state.base = UInt64(selector) << 4
    if isVirtual8086 {
      state.limit = 0xffff
      state.attributes = 0xf3
    } else if state.attributes & SegmentAttributes.present == 0 {
      state.attributes = number == SegmentRegister.cs.rawValue ? 0x9b : 0x93
    }
    setSegment(number, state)
  }

  /// Brings the mode in line after a data or stack segment was loaded. In 64-bit mode nothing depends on those.
  func flowAfterSegmentLoad(_ number: Int, _ op: Op) -> Flow {
    let isTrapped = number == SegmentRegister.ss.rawValue && hasWaitingEvents
    guard !isLongMode64 else { return isTrapped ? .serialize : .next }
    return flow(after: op, serializes: isTrapped)
  }

  /// Brings everything derived in line with a changed mode, and goes on after `op`: straight on if code is decoded as
  /// before, else as if it had branched there.
  func flow(after op: Op, serializes: Bool = false) -> Flow {
    let oldKey = cpu.pointee.engine.blockKey
    let oldTable = cpu.pointee.engine.blockCache
    modeChanged()
    if serializes { return .serialize }
    if cpu.pointee.engine.blockKey == oldKey, cpu.pointee.engine.blockCache == oldTable { return .next }
    return continueBehind(op)
  }

  /// Goes on with the next instruction as with a branch: what is decoded is looked for anew.
  @inline(__always)
  func continueBehind(_ op: Op) -> Flow {
    cpu.pointee.rip = truncateToCode(nextAddress(after: op))
    return .branch
  }
}
