import CHost
import CZydis
import X86

/// IRET, IRETD and IRETQ in all modes (SDM vol. 2A, IRET): real-address, virtual-8086 with and without VME, to the same or
/// an outer ring, to virtual-8086 mode, to the previous task, and in IA-32e mode.
enum InterruptReturn {
  static let rows: [InstructionRow] = [
    InstructionRow(ZYDIS_MNEMONIC_IRET, .endsBlock) { (processor, op) throws(GuestFault) in
      try processor.interruptReturn(op, size: 2)
    },
    InstructionRow(ZYDIS_MNEMONIC_IRETD, .endsBlock) { (processor, op) throws(GuestFault) in
      try processor.interruptReturn(op, size: 4)
    },
    InstructionRow(ZYDIS_MNEMONIC_IRETQ, .endsBlock) { (processor, op) throws(GuestFault) in
      try processor.interruptReturn(op, size: 8)
    },
  ]
}

extension SoftwareProcessor {
  /// IRET with an operand size of 2, 4 or 8 bytes. NMIs are unblocked even if it faults.
  fileprivate func interruptReturn(_ op: Op, size: Int) throws(GuestFault) -> Flow {
    cpu.pointee.nmiBlocked = 0
    let oldTop = cpu.pointee.rflags
    if isLongMode {
      guard cpu.pointee.rflags & RFLAGS.nt == 0 else { throw .generalProtection() }
      try returnInLongMode(size)
    } else if !isProtectedMode {
      try returnInRealMode(size)
    } else if isVirtual8086 {
      try returnInVirtual8086(size)
    } else if cpu.pointee.rflags & RFLAGS.nt != 0 {
      return try returnToPreviousTask(op)
    } else {
      try returnInProtectedMode(size)
    }
    // RF matters to instruction breakpoints alone.
    if cpu.pointee.dr7 & DebugControl.enables == 0 { cpu.pointee.rflags &= ~RFLAGS.rf }
    if (oldTop ^ cpu.pointee.rflags) & RFLAGS.if != 0 || cpu.pointee.nmiPending != 0, hasWaitingEvents {
      return .branchAndSerialize
    }
    return .branch
  }

  /// Frame field `number` above the stack pointer.
  @inline(__always)
  private func frame(_ number: Int, _ size: Int) throws(GuestFault) -> UInt64 {
    try peekStack(number * size, size: size)
  }

  // MARK: Flags

  /// The flags that code at `cpl` may change by IRET with this operand size.
  @inline(__always)
  private func writableFlags(_ size: Int) -> UInt64 {
    var mask = RFLAGS.arithmetic | RFLAGS.tf | RFLAGS.df | RFLAGS.nt
    if size > 2 { mask |= RFLAGS.rf | RFLAGS.ac | RFLAGS.id }
    if UInt64(cpu.pointee.cpl) <= cpu.pointee.rflags >> 12 & 3 { mask |= RFLAGS.if }
    if cpu.pointee.cpl == 0 {
      mask |= RFLAGS.iopl
      if size > 2 { mask |= RFLAGS.vif | RFLAGS.vip }
    }
    return mask
  }

  @inline(__always)
  private func setReturnFlags(_ image: UInt64, _ mask: UInt64) {
    cpu.pointee.rflags = cpu.pointee.rflags & ~mask | image & mask
  }

  // MARK: Modes

  private func returnInRealMode(_ size: Int) throws(GuestFault) {
    let rip = try frame(0, size)
    let selector = UInt16(truncatingIfNeeded: try frame(1, size))
    let flags = try frame(2, size)
    guard rip <= UInt64(cpu.pointee.segments.1.limit) else { throw .generalProtection() }
    setReturnFlags(flags, writableFlags(size) & ~(RFLAGS.vif | RFLAGS.vip))
    stackPointer = stackPointer &+ UInt64(3 * size)
    loadParagraph(SegmentRegister.cs.rawValue, selector)
    cpu.pointee.rip = rip
    modeChanged()
  }

  private func returnInVirtual8086(_ size: Int) throws(GuestFault) {
    let hasFullIOPL = cpu.pointee.rflags & RFLAGS.iopl == RFLAGS.iopl
    let usesVME = !hasFullIOPL && cpu.pointee.cr4 & CR4.vme != 0 && size == 2
    guard hasFullIOPL || usesVME else { throw .generalProtection() }
    let rip = try frame(0, size)
    let selector = UInt16(truncatingIfNeeded: try frame(1, size))
    let flags = try frame(2, size)
    if usesVME {
      let opens = flags & RFLAGS.if != 0 && cpu.pointee.rflags & RFLAGS.vip != 0
      guard !opens, flags & RFLAGS.tf == 0 else { throw .generalProtection() }
    }
    guard rip <= 0xffff else { throw .generalProtection() }
    var mask = RFLAGS.arithmetic | RFLAGS.tf | RFLAGS.df | RFLAGS.nt
    if size > 2 { mask |= RFLAGS.rf | RFLAGS.ac | RFLAGS.id }
    if usesVME {
      setReturnFlags(flags | (flags & RFLAGS.if != 0 ? RFLAGS.vif : 0), mask | RFLAGS.vif)
    } else {
      setReturnFlags(flags, mask | RFLAGS.if)
    }
    stackPointer = stackPointer &+ UInt64(3 * size)
    loadParagraph(SegmentRegister.cs.rawValue, selector)
    cpu.pointee.rip = rip
    modeChanged()
  }

  private func returnInProtectedMode(_ size: Int) throws(GuestFault) {
    let rip = try frame(0, size)
    let selector = UInt16(truncatingIfNeeded: try frame(1, size))
    let flags = try frame(2, size)
    if size == 4, flags & RFLAGS.vm != 0, cpu.pointee.cpl == 0 { return try returnToVirtual8086(rip, selector, flags) }
    let code = try readReturnCode(selector)
    let target = UInt8(truncatingIfNeeded: selector & 3)
    let mask = writableFlags(size)
    let isFromKernel = cpu.pointee.cpl == 0
    var stackDescriptor: Descriptor?
    if target == cpu.pointee.cpl {
      guard rip <= UInt64(code.limit) else { throw .generalProtection() }
      try setAccessed(code)
      stackPointer = stackPointer &+ UInt64(3 * size)
    } else {
      let pointer = try frame(3, size)
      let stackSelector = UInt16(truncatingIfNeeded: try frame(4, size))
      let stack = try readReturnStack(stackSelector, ring: target)
      guard rip <= UInt64(code.limit) else { throw .generalProtection() }
      try setAccessed(code)
      try setAccessed(stack)
      switchToOuterStack(stack.segment(selector: stackSelector), pointer)
      stackDescriptor = stack
      cpu.pointee.cpl = target
      dropInnerSegments()
    }
    cpu.pointee.segments.1 = code.segment(selector: selector)
    setReturnFlags(flags, mask)
    cpu.pointee.rip = rip
    modeChanged()
    let mode = CodeMode(rawValue: cpu.pointee.engine.blockKey)
    if size == 4, isFromKernel, mode.isSuperset(of: [.flat, .stack32]) {
      translator?.noteReturn(code, cpu.pointee.segments.1, stackDescriptor, cpu.pointee.segments.2, is64: false)
    }
  }

  private func returnToVirtual8086(_ rip: UInt64, _ selector: UInt16, _ flags: UInt64) throws(GuestFault) {
    let pointer = try frame(3, 4)
    let stack = UInt16(truncatingIfNeeded: try frame(4, 4))
    let es = UInt16(truncatingIfNeeded: try frame(5, 4))
    let ds = UInt16(truncatingIfNeeded: try frame(6, 4))
    let fs = UInt16(truncatingIfNeeded: try frame(7, 4))
    let gs = UInt16(truncatingIfNeeded: try frame(8, 4))
    guard rip <= 0xffff else { throw .generalProtection() }
    cpu.pointee.rflags = flags & RFLAGS.loadable | RFLAGS.fixed
    cpu.pointee.cpl = 3
    loadParagraph(SegmentRegister.cs.rawValue, selector)
    loadParagraph(SegmentRegister.ss.rawValue, stack)
    loadParagraph(SegmentRegister.es.rawValue, es)
    loadParagraph(SegmentRegister.ds.rawValue, ds)
    loadParagraph(SegmentRegister.fs.rawValue, fs)
    loadParagraph(SegmentRegister.gs.rawValue, gs)
    cpu.pointee.gpr.4 = pointer
    cpu.pointee.rip = rip
    modeChanged()
  }

  /// NT is set: the task that the back link names goes on.
  private func returnToPreviousTask(_ op: Op) throws(GuestFault) -> Flow {
    let selector = try loadSystem(cpu.pointee.tr.base, as: UInt16.self)
    let fault = GuestFault.invalidTSS(selectorError(selector))
    guard selector & 4 == 0 else { throw fault }
    let task = try readDescriptor(selector, orThrow: fault)
    guard task.type == SystemType.busyTSS || task.type == SystemType.busyTSS16 else { throw fault }
    guard task.isPresent else { throw .segmentNotPresent(selectorError(selector)) }
    return try switchTaskByInstruction(to: selector, task, .interruptReturn, op)
  }

  // MARK: IA-32e mode

  /// From 64-bit or compatibility mode to either; the frame always has SS and RSP where the operand size is 64 bits or
  /// the ring changes. Hot: the return from every interrupt of a 64-bit system.
  private func returnInLongMode(_ size: Int) throws(GuestFault) {
    let rip = try frame(0, size)
    let selector = UInt16(truncatingIfNeeded: try frame(1, size))
    let flags = try frame(2, size)
    let code = try readReturnCode(selector)
    let target = UInt8(truncatingIfNeeded: selector & 3)
    let mask = writableFlags(size)
    let is64 = code.isLong
    let switchesStack = target != cpu.pointee.cpl || isLongMode64
    var pointer = cpu.pointee.gpr.4
    var stack = cpu.pointee.segments.2
    var stackDescriptor: Descriptor?
    if switchesStack {
      pointer = try frame(3, size)
      let stackSelector = UInt16(truncatingIfNeeded: try frame(4, size))
      if stackSelector & 0xfffc == 0 {
        guard is64, target < 3, stackSelector & 3 == UInt16(target) else { throw .generalProtection() }
        stack = Self.nullStackSegment(target)
      } else {
        let descriptor = try readReturnStack(stackSelector, ring: target)
        try setAccessed(descriptor)
        stack = descriptor.segment(selector: stackSelector)
        stackDescriptor = descriptor
      }
    }
    if is64 {
      guard isCanonical(rip) else { throw .generalProtection() }
    } else {
      guard rip <= UInt64(code.limit) else { throw .generalProtection() }
    }
    try setAccessed(code)
    if switchesStack {
      cpu.pointee.segments.2 = stack
      if is64 || stack.attributes & SegmentAttributes.big != 0 {
        cpu.pointee.gpr.4 = is64 ? pointer : pointer & 0xffff_ffff
      } else {
        cpu.pointee.gpr.4 = cpu.pointee.gpr.4 & ~0xffff | pointer & 0xffff
      }
      if target != cpu.pointee.cpl {
        cpu.pointee.cpl = target
        dropInnerSegments()
      }
    } else {
      stackPointer = stackPointer &+ UInt64(3 * size)
    }
    if size == 8, is64, isLongMode64 {
      translator?.noteReturn(code, code.segment(selector: selector), stackDescriptor, stack, is64: true)
    }
    cpu.pointee.segments.1 = code.segment(selector: selector)
    setReturnFlags(flags, mask)
    cpu.pointee.rip = rip
    modeChanged()
  }
}
