import CHost
import X86

/// Far JMP and CALL through call gates, task gates and task-state segments (SDM vol. 3A, 5.8.3 to 5.8.5 and 7.3).
extension SoftwareProcessor {
  /// A call gate and the code segment that it leads to, checked.
  private struct GateTarget {
    let selector: UInt16
    let code: Descriptor
    let offset: UInt64
    /// Bytes of a push through the gate.
    let size: Int
    /// Parameters to copy to an inner stack.
    let parameterCount: Int
  }

  private func readGate(_ gate: Descriptor, _ gateSelector: UInt16, isJump: Bool) throws(GuestFault) -> GateTarget {
    let gateFault = GuestFault.generalProtection(selectorError(gateSelector))
    let rpl = UInt8(truncatingIfNeeded: gateSelector & 3)
    if isLongMode, gate.type != SystemType.callGate { throw gateFault }
    let upper = isLongMode ? try readUpperHalf(of: gate, gateSelector, orThrow: gateFault) : 0
    let cpl = cpu.pointee.cpl
    guard gate.dpl >= cpl, rpl <= gate.dpl else { throw gateFault }
    guard gate.isPresent else { throw .segmentNotPresent(selectorError(gateSelector)) }

    let selector = gate.gateSelector
    guard selector & 0xfffc != 0 else { throw .generalProtection() }
    let fault = GuestFault.generalProtection(selectorError(selector))
    let code = try readDescriptor(selector, orThrow: fault)
    guard code.isCode, code.dpl <= cpl else { throw fault }
    // JMP does not change CPL.
    if isJump, !code.isConforming, code.dpl != cpl { throw fault }
    if isLongMode, !code.isLong || code.isBig { throw fault }
    guard code.isPresent else { throw .segmentNotPresent(selectorError(selector)) }
    let is32 = gate.type & 8 != 0
    let offset =
      isLongMode ? gate.gateOffset | upper << 32 : is32 ? gate.gateOffset : gate.gateOffset & 0xffff
    return GateTarget(
      selector: selector, code: code, offset: offset, size: isLongMode ? 8 : is32 ? 4 : 2,
      parameterCount: isLongMode ? 0 : Int(gate.raw >> 32 & 31))
  }

  func jumpThroughGate(_ gate: Descriptor, _ selector: UInt16) throws(GuestFault) -> Flow {
    let target = try readGate(gate, selector, isJump: true)
    try checkTarget(target.offset, in: target.code)
    try setAccessed(target.code)
    enterCode(target.code, target.selector, target.offset)
    return .branch
  }

  func callThroughGate(_ op: Op, _ gate: Descriptor, _ selector: UInt16) throws(GuestFault) -> Flow {
    let target = try readGate(gate, selector, isJump: false)
    let next = truncateToCode(nextAddress(after: op))
    if !target.code.isConforming, target.code.dpl < cpu.pointee.cpl {
      if isLongMode {
        try callInnerLongMode(target, next)
      } else {
        try callInner(target, next)
      }
      return .branch
    }
    var stack =
      isLongMode ? StackCursor(pointer: cpu.pointee.gpr.4, rights: .current, fault: .stackFault()) : currentStack()
    try push(UInt64(cpu.pointee.segments.1.selector), size: target.size, on: &stack)
    try push(next, size: target.size, on: &stack)
    try checkTarget(target.offset, in: target.code)
    try setAccessed(target.code)
    cpu.pointee.gpr.4 = stack.merged(into: cpu.pointee.gpr.4)
    enterCode(target.code, target.selector, target.offset)
    return .branch
  }

  /// To an inner ring outside IA-32e mode: parameters are copied to the stack that the TSS gives.
  private func callInner(_ target: GateTarget, _ next: UInt64) throws(GuestFault) {
    let ring = target.code.dpl
    let (segment, pointer) = try protectedModeStack(ring: ring, 0)
    var stack = StackCursor(
      legacy: segment, pointer: pointer, rights: .implicitSupervisor,
      fault: .stackFault(selectorError(segment.selector)))
    let size = target.size
    try push(UInt64(cpu.pointee.segments.2.selector), size: size, on: &stack)
    try push(cpu.pointee.gpr.4, size: size, on: &stack)
    for number in stride(from: target.parameterCount - 1, through: 0, by: -1) {
      try push(peekStack(number * size, size: size), size: size, on: &stack)
    }
    try push(UInt64(cpu.pointee.segments.1.selector), size: size, on: &stack)
    try push(next, size: size, on: &stack)
    try checkTarget(target.offset, in: target.code)
    try setAccessed(target.code)
    cpu.pointee.segments.2 = segment
    cpu.pointee.gpr.4 = stack.merged(into: cpu.pointee.gpr.4)
    cpu.pointee.cpl = ring
    enterCode(target.code, target.selector, target.offset)
  }

  private func callInnerLongMode(_ target: GateTarget, _ next: UInt64) throws(GuestFault) {
    let ring = target.code.dpl
    let pointer = try longModeStack(at: 4 &+ UInt64(ring) &* 8, 0)
    var stack = StackCursor(pointer: pointer, rights: .implicitSupervisor, fault: .stackFault())
    try push(UInt64(cpu.pointee.segments.2.selector), size: 8, on: &stack)
    try push(cpu.pointee.gpr.4, size: 8, on: &stack)
    try push(UInt64(cpu.pointee.segments.1.selector), size: 8, on: &stack)
    try push(next, size: 8, on: &stack)
    try checkTarget(target.offset, in: target.code)
    try setAccessed(target.code)
    cpu.pointee.segments.2 = Self.nullStackSegment(ring)
    cpu.pointee.gpr.4 = stack.pointer
    cpu.pointee.cpl = ring
    enterCode(target.code, target.selector, target.offset)
  }

  // MARK: Tasks

  /// Far JMP or CALL to a task gate or a task-state segment; #GP for everything else, and for all of it in IA-32e mode.
  func transferToTask(_ op: Op, _ descriptor: Descriptor, _ selector: UInt16, _ source: TaskSwitchSource)
    throws(GuestFault) -> Flow
  {
    let fault = GuestFault.generalProtection(selectorError(selector))
    guard !isLongMode else { throw fault }
    let rpl = UInt8(truncatingIfNeeded: selector & 3)
    let isGate = descriptor.type == SystemType.taskGate
    guard isGate || descriptor.type == SystemType.availableTSS || descriptor.type == SystemType.availableTSS16,
      descriptor.dpl >= cpu.pointee.cpl, descriptor.dpl >= rpl
    else { throw fault }
    guard isGate else {
      guard selector & 4 == 0 else { throw fault }
      guard descriptor.isPresent else { throw .segmentNotPresent(selectorError(selector)) }
      return try switchTaskByInstruction(to: selector, descriptor, source, op)
    }
    guard descriptor.isPresent else { throw .segmentNotPresent(selectorError(selector)) }
    let taskSelector = descriptor.gateSelector
    let taskFault = GuestFault.generalProtection(selectorError(taskSelector))
    guard taskSelector & 4 == 0 else { throw taskFault }
    let task = try readDescriptor(taskSelector, orThrow: taskFault)
    guard task.type == SystemType.availableTSS || task.type == SystemType.availableTSS16 else { throw taskFault }
    guard task.isPresent else { throw .segmentNotPresent(selectorError(taskSelector)) }
    return try switchTaskByInstruction(to: taskSelector, task, source, op)
  }

  /// Switches tasks for JMP, CALL or IRET. Faults of the new task's own state are delivered in the new task.
  func switchTaskByInstruction(
    to selector: UInt16, _ task: Descriptor, _ source: TaskSwitchSource, _ op: Op
  ) throws(GuestFault) -> Flow {
    let late = try switchTask(
      to: selector, task, source, returnAddress: truncateToCode(nextAddress(after: op)),
      flagsImage: cpu.pointee.rflags, external: 0)
    events.isSingleStep = false
    // Answers from outside that the delivery would need cannot be had any more.
    if let late, !deliver(late) { cpu.pointee.activity = .shutdown }
    return .branchAndSerialize
  }
}
