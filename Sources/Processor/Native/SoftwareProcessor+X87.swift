import CHost
import X86

/// The guest's x87 unit, which is the host's while it is in use.
extension SoftwareProcessor {
  /// Brings the guest's x87 registers into the host's unit if they are not there.
  @inline(__always) func takeX87() {
    if cpu.pointee.engine.x87Residence == X87Residence.memory.rawValue { nativeX87Load(cpu) }
  }

  /// Brings the XSAVE area up to date with the x87 registers.
  @inline(__always) func storeX87() {
    if cpu.pointee.engine.x87Residence != X87Residence.memory.rawValue { nativeX87Store(cpu) }
  }

  /// The XSAVE area has new x87 registers.
  @inline(__always) func forgetX87() {
    if cpu.pointee.engine.x87Residence != X87Residence.memory.rawValue { nativeX87Abandon(cpu) }
  }

  /// What any x87 instruction but the few that do not wait does first: a pending exception is delivered.
  ///
  /// With CR0.NE, #MF. Without it the processor asserts FERR# and stops at this instruction until an interrupt comes, which
  /// the PC's interrupt controller makes of FERR# (SDM vol. 1, 8.7.2). While IGNNE# is asserted the exception is ignored:
  /// all are masked for the instruction, and `endIgnoring` is to follow it.
  func waitForX87(_ op: Op) throws(GuestFault) -> Flow? {
    guard cpu.pointee.engine.x87Residence == X87Residence.hostUnmasked.rawValue, nativeX87Status() & 0x80 != 0
    else {
      cpu.pointee.ignoresNumericErrors = 0
      return nil
    }
    guard cpu.pointee.cr0 & CR0.ne == 0 else { throw .exception(.x87FloatingPoint, errorCode: 0) }
    if cpu.pointee.ignoresNumericErrors != 0 {
      maskedControl = nativeX87Control()
      nativeX87MaskExceptions()
      return nil
    }
    cpu.pointee.rip = truncateToCode(address(of: op))
    cpu.pointee.activity = .halted
    // The interrupt comes before this instruction's end, also if STI stands before it.
    cpu.pointee.interruptShadow = []
    post(.numericError)
    return .branchAndSerialize
  }

  /// Puts the control word back that `waitForX87` has masked; what is pending stays pending.
  @inline(__always)
  func endIgnoring() {
    guard let control = maskedControl else { return }
    maskedControl = nil
    nativeX87LoadControl(control)
    nativeX87Classify(cpu)
  }

  /// The x87 pointers and opcode move to `op`.
  func recordX87(_ op: Op) {
    cpu.pointee.fpuInstructionPointer = address(of: op)
    cpu.pointee.fpuCodeSegment = segment(.cs).selector
    cpu.pointee.fpuOpcode = UInt16(truncatingIfNeeded: op.pointee.immediate)
    guard NativeTraits(op).memorySize > 0 else { return }
    cpu.pointee.fpuDataPointer = effectiveAddress(op)
    cpu.pointee.fpuDataSegment = segment(Int(op.pointee.segmentRegister)).selector
  }

  /// Whether the x87 or MMX instruction that has just run has stored its result. It has not if it raised an unmasked
  /// exception other than a loss of precision. No exception was pending before it.
  func hasStored(_ traits: NativeTraits) -> Bool {
    guard cpu.pointee.engine.x87Residence == X87Residence.hostUnmasked.rawValue else { return true }
    let raised = nativeX87Status() & ~nativeX87Control() & 0x3f
    return raised & ~0x20 == 0
  }
}
