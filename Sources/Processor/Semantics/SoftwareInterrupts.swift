import CHost
import CZydis
import Machine
import X86

/// INT n, INT3, INT1, INTO, BOUND and the undefined instructions; HLT, PAUSE, MONITOR and MWAIT; hypercalls.
enum SoftwareInterrupts {
  static let rows: [InstructionRow] = [
    InstructionRow(ZYDIS_MNEMONIC_INT, .endsBlock, interrupt),
    InstructionRow(ZYDIS_MNEMONIC_INT3, .endsBlock) { (processor, op) throws(GuestFault) in
      try processor.raise(ExceptionVector.breakpoint.rawValue, .softwareException, op)
    },
    InstructionRow(ZYDIS_MNEMONIC_INT1, .endsBlock) { (processor, op) throws(GuestFault) in
      try processor.raise(ExceptionVector.debug.rawValue, .privilegedSoftwareException, op)
    },
    InstructionRow(ZYDIS_MNEMONIC_INTO, .endsBlock) { (processor, op) throws(GuestFault) in
      guard processor.flag(RFLAGS.of) else { return .next }
      return try processor.raise(ExceptionVector.overflow.rawValue, .softwareException, op)
    },
    InstructionRow(ZYDIS_MNEMONIC_BOUND, bound),
    InstructionRow(ZYDIS_MNEMONIC_UD0, .endsBlock, undefined),
    InstructionRow(ZYDIS_MNEMONIC_UD1, .endsBlock, undefined),
    InstructionRow(ZYDIS_MNEMONIC_UD2, .endsBlock, undefined),
    InstructionRow(ZYDIS_MNEMONIC_RSM, .endsBlock, undefined),
    InstructionRow(ZYDIS_MNEMONIC_HLT, [.endsBlock, .privileged]) { (processor, _) throws(GuestFault) in
      processor.cpu.pointee.activity = .halted
      return .serialize
    },
    InstructionRow(ZYDIS_MNEMONIC_PAUSE, pause),
    InstructionRow(ZYDIS_MNEMONIC_MONITOR, .privileged, monitor),
    InstructionRow(ZYDIS_MNEMONIC_MWAIT, .privileged, wait),
    InstructionRow(ZYDIS_MNEMONIC_VMCALL, .endsBlock, hypercall),
    InstructionRow(ZYDIS_MNEMONIC_VMMCALL, .endsBlock, hypercall),
  ]

  static func undefined(_ processor: SoftwareProcessor, _ op: Op) throws(GuestFault) -> Flow { throw .invalidOpcode }

  /// INT n. In virtual-8086 mode IOPL, VME and the task's redirection map decide who handles it.
  static func interrupt(_ processor: SoftwareProcessor, _ op: Op) throws(GuestFault) -> Flow {
    let vector = UInt8(truncatingIfNeeded: op.pointee.immediate)
    if processor.isVirtual8086 {
      if try processor.isRedirected(vector) {
        try processor.redirectInterrupt(
          vector, returnAddress: processor.truncateToCode(processor.nextAddress(after: op)))
        return .branch
      }
      guard processor.cpu.pointee.rflags & RFLAGS.iopl == RFLAGS.iopl else { throw .generalProtection() }
    }
    return try processor.raise(vector, .softwareInterrupt, op)
  }

  /// #BR unless the index is within both bounds, signed.
  static func bound(_ processor: SoftwareProcessor, _ op: Op) throws(GuestFault) -> Flow {
    let size = Int(op.pointee.size)
    let bounds = try GuestArea(processor, op, .pair(size), count: 2 * size, for: .read)
    let isInside: Bool
    if size == 2 {
      let index = Int16(truncatingIfNeeded: processor.register(op.pointee.destination, as: UInt16.self))
      let lower: Int16 = try bounds.load(0)
      let upper: Int16 = try bounds.load(2)
      isInside = index >= lower && index <= upper
    } else {
      let index = Int32(truncatingIfNeeded: processor.register(op.pointee.destination, as: UInt32.self))
      let lower: Int32 = try bounds.load(0)
      let upper: Int32 = try bounds.load(4)
      isInside = index >= lower && index <= upper
    }
    guard isInside else { throw .exception(.boundRange, errorCode: 0) }
    return .next
  }

  /// PAUSEs between two yields: a few microseconds.
  private static let pausesPerYield: UInt32 = 128

  /// A spin that lasts gives the host's other threads a chance: who is waited for may have no core.
  static func pause(_ processor: SoftwareProcessor, _ op: Op) throws(GuestFault) -> Flow {
    processor.events.pauseCount &+= 1
    guard processor.events.pauseCount % pausesPerYield == 0 else { return .next }
    processor.post(.yield)
    return .serialize
  }

  /// Checks the address; nothing is armed, so every MWAIT wakes at once.
  static func monitor(_ processor: SoftwareProcessor, _ op: Op) throws(GuestFault) -> Flow {
    guard processor.cpu.pointee.gpr.1 & 0xffff_ffff == 0 else { throw .generalProtection() }
    let address = try processor.linearAddress(
      segment: Int(op.pointee.segmentRegister), offset: processor.cpu.pointee.gpr.0 & op.pointee.addressMask, count: 1,
      for: .read)
    _ = try processor.load(address, as: UInt8.self)
    return .next
  }

  static func wait(_ processor: SoftwareProcessor, _ op: Op) throws(GuestFault) -> Flow {
    guard processor.cpu.pointee.gpr.1 & 0xffff_fffe == 0 else { throw .generalProtection() }
    processor.post(.yield)
    return .serialize
  }

  static func hypercall(_ processor: SoftwareProcessor, _ op: Op) throws(GuestFault) -> Flow {
    guard processor.model.offersHypercalls else { throw .invalidOpcode }
    processor.post(.hypercall)
    return .serialize
  }
}

extension SoftwareProcessor {
  /// Delivers an interrupt that the instruction `op` asks for. Faults on the way are the instruction's own.
  fileprivate func raise(_ vector: UInt8, _ source: Event.Source, _ op: Op) throws(GuestFault) -> Flow {
    let start = cpu.pointee.rip
    let next = truncateToCode(nextAddress(after: op))
    cpu.pointee.rip = truncateToCode(address(of: op))
    guard deliverInterrupt(vector, source, returnAddress: next) else {
      cpu.pointee.rip = start
      throw .exit
    }
    return cpu.pointee.pendingDebug != 0 ? .branchAndSerialize : .branch
  }

  /// Posts an exit that is made when the instruction has ended.
  func post(_ exit: VMExit) {
    pendingExits.append(exit)
    cpu.pointee.engine.stopReason |= StopReason.exits
  }
}
