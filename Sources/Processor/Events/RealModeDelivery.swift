import CHost
import X86

/// Interrupts and exceptions by interrupt vector table: in real-address mode (SDM vol. 3B, 20.1.4), and software
/// interrupts of virtual-8086 mode that VME redirects to the 8086 program itself (20.3).
extension SoftwareProcessor {
  func startInRealMode(_ event: Event) throws(GuestFault) {
    let offset = UInt64(event.vector) << 2
    guard offset &+ 3 <= UInt64(cpu.pointee.idtr.limit) else { throw .generalProtection(event.gateError) }
    let vector = try loadSystem(systemAddress(cpu.pointee.idtr.base, offset), as: UInt32.self)
    try enterVectorTableHandler(vector, returnAddress: event.returnAddress, flags: cpu.pointee.rflags)
    cpu.pointee.rflags &= ~(RFLAGS.if | RFLAGS.tf | RFLAGS.ac | RFLAGS.rf)
    modeChanged()
  }

  /// Pushes FLAGS, CS and IP, and goes to CS:IP as a vector table has them.
  private func enterVectorTableHandler(_ vector: UInt32, returnAddress: UInt64, flags: UInt64) throws(GuestFault) {
    var stack = currentStack()
    try push(flags, size: 2, on: &stack)
    try push(UInt64(cpu.pointee.segments.1.selector), size: 2, on: &stack)
    try push(returnAddress, size: 2, on: &stack)
    loadParagraph(SegmentRegister.cs.rawValue, UInt16(truncatingIfNeeded: vector >> 16))
    cpu.pointee.rip = UInt64(vector & 0xffff)
    cpu.pointee.gpr.4 = stack.merged(into: cpu.pointee.gpr.4)
  }

  /// Whether INT n in virtual-8086 mode goes to the 8086 program's own handler: VME is on and the task's redirection bit
  /// for the vector is clear.
  func isRedirected(_ vector: UInt8) throws(GuestFault) -> Bool {
    guard cpu.pointee.cr4 & CR4.vme != 0, cpu.pointee.tr.attributes & 8 != 0 else { return false }
    let task = cpu.pointee.tr
    guard task.limit >= 0x67 else { throw .generalProtection() }
    let ioMap = UInt64(try loadSystem(systemAddress(task.base, 0x66), as: UInt16.self))
    let offset = ioMap &- 32 &+ UInt64(vector >> 3)
    guard ioMap >= 32, offset <= UInt64(task.limit) else { throw .generalProtection() }
    let bits = try loadSystem(systemAddress(task.base, offset), as: UInt8.self)
    return bits >> (vector & 7) & 1 == 0
  }

  /// INT n redirected to the 8086 program: methods 5 (IOPL 3) and 6 of SDM vol. 3B, table 20-2. The vector table is at
  /// linear address 0 and is read with the program's own rights.
  func redirectInterrupt(_ vector: UInt8, returnAddress: UInt64) throws(GuestFault) {
    let entry = try load(UInt64(vector) << 2, as: UInt32.self)
    let flags = cpu.pointee.rflags
    if flags & RFLAGS.iopl == RFLAGS.iopl {
      try enterVectorTableHandler(entry, returnAddress: returnAddress, flags: flags)
      cpu.pointee.rflags &= ~(RFLAGS.if | RFLAGS.tf | RFLAGS.nt)
    } else {
      let virtual = flags & RFLAGS.vif != 0 ? RFLAGS.if : 0
      try enterVectorTableHandler(
        entry, returnAddress: returnAddress, flags: flags & ~RFLAGS.if | virtual | RFLAGS.iopl)
      cpu.pointee.rflags &= ~(RFLAGS.vif | RFLAGS.tf | RFLAGS.nt)
    }
    modeChanged()
  }
}
