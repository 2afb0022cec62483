import CHost
import X86

/// Interrupts and exceptions in protected and virtual-8086 mode outside IA-32e mode (SDM vol. 3A, 6.12): interrupt, trap
/// and task gates of 16 and 32 bits. The order of checks is that of the pseudo-code of INT n (SDM vol. 2A).
extension SoftwareProcessor {
  func startInProtectedMode(_ event: Event) throws(GuestFault) {
    let gateOffset = UInt64(event.vector) << 3
    guard gateOffset &+ 7 <= UInt64(cpu.pointee.idtr.limit) else { throw .generalProtection(event.gateError) }
    let gateAddress = systemAddress(cpu.pointee.idtr.base, gateOffset)
    let gate = Descriptor(raw: try loadSystem(gateAddress), address: gateAddress)
    switch gate.type {
    case SystemType.taskGate, SystemType.interruptGate16, SystemType.trapGate16, SystemType.interruptGate,
      SystemType.trapGate:
      break
    default: throw .generalProtection(event.gateError)
    }
    if event.isSoftware, gate.dpl < cpu.pointee.cpl { throw .generalProtection(event.gateError) }
    guard gate.isPresent else { throw .segmentNotPresent(event.gateError) }
    if gate.type == SystemType.taskGate { return try startTask(event, gate) }

    let selector = gate.gateSelector
    guard selector & 0xfffc != 0 else { throw .generalProtection(event.external) }
    let selectorFault = GuestFault.generalProtection(selectorError(selector, event.external))
    let code = try readDescriptor(selector, orThrow: selectorFault)
    guard code.isCode, code.dpl <= cpu.pointee.cpl else { throw selectorFault }
    guard code.isPresent else { throw .segmentNotPresent(selectorError(selector, event.external)) }
    if isVirtual8086 {
      guard !code.isConforming, code.dpl == 0 else { throw selectorFault }
    }
    let newCPL = code.isConforming ? cpu.pointee.cpl : code.dpl
    try startHandler(event, gate, code, newCPL)
  }

  private func startHandler(_ event: Event, _ gate: Descriptor, _ code: Descriptor, _ newCPL: UInt8) throws(GuestFault)
  {
    let is32 = gate.type & 8 != 0
    let size = is32 ? 4 : 2
    let isInner = newCPL < cpu.pointee.cpl
    let isFromVirtual8086 = isVirtual8086
    var inner = SegmentState()
    var stack: StackCursor
    if isInner {
      let (segment, pointer) = try protectedModeStack(ring: newCPL, event.external)
      inner = segment
      stack = StackCursor(
        legacy: segment, pointer: pointer, rights: .implicitSupervisor,
        fault: .stackFault(selectorError(segment.selector, event.external)))
    } else {
      stack = currentStack(fault: .stackFault(event.external))
    }
    let target = is32 ? gate.gateOffset : gate.gateOffset & 0xffff
    if isFromVirtual8086 {
      for register in [SegmentRegister.gs, .fs, .ds, .es] {
        try push(UInt64(segment(register).selector), size: size, on: &stack)
      }
    }
    if isInner {
      try push(UInt64(cpu.pointee.segments.2.selector), size: size, on: &stack)
      try push(cpu.pointee.gpr.4, size: size, on: &stack)
    }
    try push(flagsImage(event), size: size, on: &stack)
    try push(UInt64(cpu.pointee.segments.1.selector), size: size, on: &stack)
    try push(event.returnAddress, size: size, on: &stack)
    if event.pushesErrorCode { try push(UInt64(event.errorCode), size: size, on: &stack) }
    guard target <= UInt64(code.limit) else { throw .generalProtection(event.external) }
    try setAccessed(code)

    if isFromVirtual8086 {
      for register in [SegmentRegister.gs, .fs, .ds, .es] { setSegment(register.rawValue, SegmentState()) }
    }
    if isInner { cpu.pointee.segments.2 = inner }
    cpu.pointee.segments.1 = code.segment(selector: gate.gateSelector & ~3 | UInt16(newCPL))
    cpu.pointee.cpl = newCPL
    cpu.pointee.gpr.4 = stack.merged(into: cpu.pointee.gpr.4)
    cpu.pointee.rip = target
    clearFlagsForHandler(masksInterrupts: gate.type & 7 == SystemType.interruptGate16)
    modeChanged()
  }

  /// SS and eSP of an inner ring from the current 16 or 32-bit TSS, checked as for a change of stack: #TS and #SS.
  func protectedModeStack(ring: UInt8, _ external: UInt32) throws(GuestFault) -> (SegmentState, UInt64) {
    let task = cpu.pointee.tr
    let is32 = task.attributes & 8 != 0
    let offset = is32 ? UInt64(ring) * 8 + 4 : UInt64(ring) * 4 + 2
    guard offset &+ (is32 ? 5 : 3) <= UInt64(task.limit) else {
      throw .invalidTSS(selectorError(task.selector, external))
    }
    let pointer: UInt64
    let selector: UInt16
    if is32 {
      pointer = UInt64(try loadSystem(systemAddress(task.base, offset), as: UInt32.self))
      selector = try loadSystem(systemAddress(task.base, offset &+ 4))
    } else {
      pointer = UInt64(try loadSystem(systemAddress(task.base, offset), as: UInt16.self))
      selector = try loadSystem(systemAddress(task.base, offset &+ 2))
    }
    guard selector & 0xfffc != 0 else { throw .invalidTSS(external) }
    let fault = GuestFault.invalidTSS(selectorError(selector, external))
    let descriptor = try readDescriptor(selector, orThrow: fault)
    guard selector & 3 == UInt16(ring), descriptor.dpl == ring, descriptor.isWritableData else { throw fault }
    guard descriptor.isPresent else { throw .stackFault(selectorError(selector, external)) }
    try setAccessed(descriptor)
    return (descriptor.segment(selector: selector), pointer)
  }

  /// Starts the handler behind a task gate; its error code goes onto the new task's stack.
  private func startTask(_ event: Event, _ gate: Descriptor) throws(GuestFault) {
    let selector = gate.gateSelector
    let fault = GuestFault.generalProtection(selectorError(selector, event.external))
    guard selector & 4 == 0 else { throw fault }
    let task = try readDescriptor(selector, orThrow: fault)
    guard task.type == SystemType.availableTSS || task.type == SystemType.availableTSS16 else { throw fault }
    guard task.isPresent else { throw .segmentNotPresent(selectorError(selector, event.external)) }
    let late = try switchTask(
      to: selector, task, .event, returnAddress: event.returnAddress, flagsImage: flagsImage(event),
      external: event.external)
    if let late { throw late }
    guard event.pushesErrorCode else { return }
    var stack = currentStack(fault: .stackFault(event.external))
    try push(UInt64(event.errorCode), size: task.type & 8 != 0 ? 4 : 2, on: &stack)
    cpu.pointee.gpr.4 = stack.merged(into: cpu.pointee.gpr.4)
  }
}
