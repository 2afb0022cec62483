import CHost
import X86

/// Interrupts and exceptions in IA-32e mode (SDM vol. 3A, 6.14): 16-byte gates, 64-bit handlers, a frame of quadwords on
/// a stack aligned to 16 bytes, and the interrupt stack table.
extension SoftwareProcessor {
  func startInLongMode(_ event: Event) throws(GuestFault) {
    let gateOffset = UInt64(event.vector) << 4
    guard gateOffset &+ 15 <= UInt64(cpu.pointee.idtr.limit) else { throw .generalProtection(event.gateError) }
    let gateAddress = cpu.pointee.idtr.base &+ gateOffset
    let gate = Descriptor(raw: try loadSystem(gateAddress), address: gateAddress)
    let upper = try loadSystem(gateAddress &+ 8, as: UInt64.self)
    guard gate.type | 1 == SystemType.trapGate, !event.isSoftware || gate.dpl >= cpu.pointee.cpl else {
      throw .generalProtection(event.gateError)
    }
    guard gate.isPresent else { throw .segmentNotPresent(event.gateError) }

    let selector = gate.gateSelector
    guard selector & 0xfffc != 0 else { throw .generalProtection(event.external) }
    let selectorFault = GuestFault.generalProtection(selectorError(selector, event.external))
    let code = try readDescriptor(selector, orThrow: selectorFault)
    guard code.isCode, code.dpl <= cpu.pointee.cpl, code.isLong, !code.isBig else { throw selectorFault }
    guard code.isPresent else { throw .segmentNotPresent(selectorError(selector, event.external)) }

    let oldCPL = cpu.pointee.cpl
    let newCPL = code.isConforming ? oldCPL : code.dpl
    let stackNumber = gate.raw &>> 32 & 7
    var stack = cpu.pointee.gpr.4
    if stackNumber != 0 {
      stack = try longModeStack(at: 28 &+ stackNumber &* 8, event.external)
    } else if newCPL < oldCPL {
      stack = try longModeStack(at: 4 &+ UInt64(newCPL) &* 8, event.external)
    }
    let target = gate.gateOffset | upper << 32
    guard isCanonical(target) else { throw .generalProtection(event.external) }
    try setAccessed(code)
    let pointer = try pushLongModeFrame(event, stack & ~15, isInner: newCPL < oldCPL || !isLongMode64)

    cpu.pointee.segments.1 = code.segment(selector: selector & ~3 | UInt16(newCPL))
    if newCPL < oldCPL { cpu.pointee.segments.2 = Self.nullStackSegment(newCPL) }
    cpu.pointee.cpl = newCPL
    cpu.pointee.gpr.4 = pointer
    cpu.pointee.rip = target
    clearFlagsForHandler(masksInterrupts: gate.type == SystemType.interruptGate)
    modeChanged()
  }

  /// SS after a change to an inner ring of 64-bit mode: null, with the ring in its RPL and DPL.
  @inline(__always)
  static func nullStackSegment(_ cpl: UInt8) -> SegmentState {
    SegmentState(base: 0, limit: 0, selector: UInt16(cpl), attributes: UInt16(cpl) << 5)
  }

  /// A stack pointer from the 64-bit TSS: RSP0 to RSP2 from offset 4, IST1 to IST7 from offset 36.
  @inline(__always)
  func longModeStack(at offset: UInt64, _ external: UInt32) throws(GuestFault) -> UInt64 {
    guard offset &+ 7 <= UInt64(cpu.pointee.tr.limit) else {
      throw .invalidTSS(selectorError(cpu.pointee.tr.selector, external))
    }
    let pointer = try loadSystem(cpu.pointee.tr.base &+ offset, as: UInt64.self)
    guard isCanonical(pointer) else { throw .stackFault(external) }
    return pointer
  }

  /// Writes SS, RSP, RFLAGS, CS, RIP and the error code below `top`; returns where the frame starts.
  @inline(__always)
  private func pushLongModeFrame(_ event: Event, _ top: UInt64, isInner: Bool) throws(GuestFault) -> UInt64 {
    let size = event.pushesErrorCode ? 48 : 40
    let bottom = top &- UInt64(size)
    let table = isInner ? translations.table(.supervisor) : cpu.pointee.engine.tlb.unsafelyUnwrapped
    let entry = table + TranslationCache.index(of: bottom)
    if let host = Self.hit(entry.pointee.writeTag, entry.pointee.host, bottom, size) {
      let frame = host + (size - 40)
      if event.pushesErrorCode { host.storeBytes(of: UInt64(event.errorCode), as: UInt64.self) }
      frame.storeBytes(of: event.returnAddress, as: UInt64.self)
      frame.storeBytes(of: UInt64(cpu.pointee.segments.1.selector), toByteOffset: 8, as: UInt64.self)
      frame.storeBytes(of: flagsImage(event), toByteOffset: 16, as: UInt64.self)
      frame.storeBytes(of: cpu.pointee.gpr.4, toByteOffset: 24, as: UInt64.self)
      frame.storeBytes(of: UInt64(cpu.pointee.segments.2.selector), toByteOffset: 32, as: UInt64.self)
      return bottom
    }
    return try pushLongModeFrameSlowly(event, top, isInner: isInner)
  }

  @inline(never)
  private func pushLongModeFrameSlowly(_ event: Event, _ top: UInt64, isInner: Bool) throws(GuestFault) -> UInt64 {
    var stack = StackCursor(
      pointer: top, rights: isInner ? .implicitSupervisor : .current, fault: .stackFault(event.external))
    try push(UInt64(cpu.pointee.segments.2.selector), size: 8, on: &stack)
    try push(cpu.pointee.gpr.4, size: 8, on: &stack)
    try push(flagsImage(event), size: 8, on: &stack)
    try push(UInt64(cpu.pointee.segments.1.selector), size: 8, on: &stack)
    try push(event.returnAddress, size: 8, on: &stack)
    if event.pushesErrorCode { try push(UInt64(event.errorCode), size: 8, on: &stack) }
    return stack.pointer
  }
}
