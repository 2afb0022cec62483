import CHost
import X86

/// What makes the processor switch tasks: decides busy bits, NT and the link to the previous task (SDM vol. 3A, table 7-2).
enum TaskSwitchSource {
  case jump, call, event, interruptReturn

  /// The new task is nested in the old one, which stays busy.
  var nests: Bool { self == .call || self == .event }
}

/// Where things are in a task-state segment (SDM vol. 3A, 7.2.1 and 7.6).
private struct TaskLayout {
  let is32: Bool
  /// Highest offset that a TSS must have.
  var lastOffset: UInt32 { is32 ? 0x67 : 0x2b }
  /// EIP or IP; EFLAGS, the general registers and the segment selectors follow it.
  var instructionPointer: UInt64 { is32 ? 0x20 : 0x0e }
  /// Bytes of one register.
  var width: UInt64 { is32 ? 4 : 2 }
  /// ES CS SS DS, and FS GS in 32 bits.
  var segmentCount: Int { is32 ? 6 : 4 }
  var segments: UInt64 { instructionPointer + 10 * width }
  var localTable: UInt64 { segments + UInt64(segmentCount) * width }
}

/// What a switch loads from the new TSS.
private struct TaskState {
  var cr3: UInt64 = 0
  var instructionPointer: UInt64 = 0
  var flags: UInt64 = 0
  var registers: (UInt64, UInt64, UInt64, UInt64, UInt64, UInt64, UInt64, UInt64) = (0, 0, 0, 0, 0, 0, 0, 0)
  var segments: (UInt16, UInt16, UInt16, UInt16, UInt16, UInt16) = (0, 0, 0, 0, 0, 0)
  var localTable: UInt16 = 0
  var trap = false
}

/// Hardware task switching (SDM vol. 3A, 7.3), which exists outside IA-32e mode only.
extension SoftwareProcessor {
  /// Switches to the task of a present TSS descriptor; the caller has checked privilege, presence and the busy bit.
  ///
  /// Throws, with nothing changed, what is wrong before the switch: #TS for the limit, #PF in either TSS. What is wrong
  /// with the new task's own state is returned: it is to be delivered in the new task, whose RIP is set.
  func switchTask(
    to selector: UInt16, _ descriptor: Descriptor, _ source: TaskSwitchSource, returnAddress: UInt64,
    flagsImage: UInt64, external: UInt32
  ) throws(GuestFault) -> GuestFault? {
    let layout = TaskLayout(is32: descriptor.type & 8 != 0)
    let old = cpu.pointee.tr
    let oldLayout = TaskLayout(is32: old.attributes & 8 != 0)
    guard descriptor.limit >= layout.lastOffset else { throw .invalidTSS(selectorError(selector, external)) }
    let oldDescriptor = try readDescriptor(
      old.selector & ~4, orThrow: .invalidTSS(selectorError(old.selector, external)))

    // Everything that can fault does so before the first write.
    let base = descriptor.base
    try checkWritable(
      systemAddress(old.base, oldLayout.instructionPointer),
      count: Int(oldLayout.localTable - oldLayout.instructionPointer),
      rights: .implicitSupervisor)
    if source.nests { try checkWritable(base, count: 2, rights: .implicitSupervisor) }
    try checkWritable(systemAddress(descriptor.address, 5), count: 1, rights: .implicitSupervisor)
    try checkWritable(systemAddress(oldDescriptor.address, 5), count: 1, rights: .implicitSupervisor)
    let state = try readTask(base, layout)

    let saved = source == .interruptReturn ? flagsImage & ~RFLAGS.nt : flagsImage
    try saveTask(old.base, oldLayout, returnAddress: returnAddress, flags: saved)
    if !source.nests { try setTypeBits(of: oldDescriptor, set: 0, clear: SystemType.busyBit) }
    if source.nests { try storeSystem(old.selector, at: base) }
    if source != .interruptReturn { try setTypeBits(of: descriptor, set: SystemType.busyBit, clear: 0) }

    cpu.pointee.tr = descriptor.segment(selector: selector)
    cpu.pointee.tr.attributes |= UInt16(SystemType.busyBit)
    let late = loadTask(state, layout, nests: source.nests, external)
    modeChanged()
    return late
  }

  private func loadTaskField(_ base: UInt64, _ offset: UInt64, _ width: UInt64) throws(GuestFault) -> UInt64 {
    width == 4
      ? UInt64(try loadSystem(systemAddress(base, offset), as: UInt32.self))
      : UInt64(try loadSystem(systemAddress(base, offset), as: UInt16.self))
  }

  private func storeTaskField(_ value: UInt64, _ base: UInt64, _ offset: UInt64, _ width: UInt64) throws(GuestFault) {
    if width == 4 {
      try storeSystem(UInt32(truncatingIfNeeded: value), at: systemAddress(base, offset))
    } else {
      try storeSystem(UInt16(truncatingIfNeeded: value), at: systemAddress(base, offset))
    }
  }

  private func readTask(_ base: UInt64, _ layout: TaskLayout) throws(GuestFault) -> TaskState {
    var state = TaskState()
    let width = layout.width
    var offset = layout.instructionPointer
    func next() throws(GuestFault) -> UInt64 {
      defer { offset += width }
      return try loadTaskField(base, offset, width)
    }
    state.instructionPointer = try next()
    state.flags = try next()
    // Upper halves are not part of a 16-bit task's state (SDM vol. 3A, 8.6 "16-Bit Task-State Segment (TSS)"). The 80386 and
    // those after it set them.
    func register() throws(GuestFault) -> UInt64 { try next() | (layout.is32 ? 0 : 0xffff_0000) }
    state.registers = (
      try register(), try register(), try register(), try register(), try register(), try register(),
      try register(), try register()
    )
    func selector() throws(GuestFault) -> UInt16 { UInt16(truncatingIfNeeded: try next()) }
    state.segments = (try selector(), try selector(), try selector(), try selector(), 0, 0)
    if layout.is32 {
      state.segments.4 = try selector()
      state.segments.5 = try selector()
      state.cr3 = try loadTaskField(base, 0x1c, 4)
      state.trap = try loadTaskField(base, 0x64, 2) & 1 != 0
    }
    state.localTable = try selector()
    return state
  }

  private func saveTask(_ base: UInt64, _ layout: TaskLayout, returnAddress: UInt64, flags: UInt64) throws(GuestFault) {
    var offset = layout.instructionPointer
    func put(_ value: UInt64) throws(GuestFault) {
      try storeTaskField(value, base, offset, layout.width)
      offset += layout.width
    }
    try put(returnAddress)
    try put(flags)
    for number in 0..<8 { try put(gpr(number)) }
    for number in 0..<layout.segmentCount { try put(UInt64(segment(number).selector)) }
  }

  /// Loads the new task's registers; from here on faults are the new task's.
  private func loadTask(_ state: TaskState, _ layout: TaskLayout, nests: Bool, _ external: UInt32) -> GuestFault? {
    cpu.pointee.cr0 |= CR0.ts
    // The local breakpoint enables are the old task's.
    cpu.pointee.dr7 &= ~0x155
    cpu.pointee.rip = state.instructionPointer
    cpu.pointee.rflags = state.flags & RFLAGS.loadable | RFLAGS.fixed | (nests ? RFLAGS.nt : 0)
    let registers = state.registers
    cpu.pointee.gpr.0 = registers.0
    cpu.pointee.gpr.1 = registers.1
    cpu.pointee.gpr.2 = registers.2
    cpu.pointee.gpr.3 = registers.3
    cpu.pointee.gpr.4 = registers.4
    cpu.pointee.gpr.5 = registers.5
    cpu.pointee.gpr.6 = registers.6
    cpu.pointee.gpr.7 = registers.7
    // Selectors first, all of them; each is usable when its descriptor has been found good.
    let selectors = state.segments
    setSegment(0, SegmentState(base: 0, limit: 0, selector: selectors.0, attributes: 0))
    setSegment(1, SegmentState(base: 0, limit: 0, selector: selectors.1, attributes: 0))
    setSegment(2, SegmentState(base: 0, limit: 0, selector: selectors.2, attributes: 0))
    setSegment(3, SegmentState(base: 0, limit: 0, selector: selectors.3, attributes: 0))
    setSegment(4, SegmentState(base: 0, limit: 0, selector: selectors.4, attributes: 0))
    setSegment(5, SegmentState(base: 0, limit: 0, selector: selectors.5, attributes: 0))
    cpu.pointee.ldtr = SegmentState(base: 0, limit: 0, selector: state.localTable, attributes: 0)
    let isVirtual = isVirtual8086
    cpu.pointee.cpl = isVirtual ? 3 : UInt8(truncatingIfNeeded: selectors.1 & 3)
    if state.trap { cpu.pointee.pendingDebug |= DebugStatus.taskSwitch }
    do throws(GuestFault) {
      if layout.is32, cpu.pointee.cr0 & CR0.pg != 0 { try setCR3(state.cr3) }
      try loadLocalTable(state.localTable, orThrow: .invalidTSS(selectorError(state.localTable, external)))
      if isVirtual {
        for number in 0..<6 { loadParagraph(number, segment(number).selector) }
        return nil
      }
      try loadTaskCode(selectors.1, external)
      try loadTaskStack(selectors.2, external)
      for number in [0, 3, 4, 5] { try loadTaskData(number, segment(number).selector, external) }
      return nil
    } catch {
      return error
    }
  }

  private func loadLocalTable(_ selector: UInt16, orThrow fault: GuestFault) throws(GuestFault) {
    guard selector & 0xfffc != 0 else { return }
    guard selector & 4 == 0 else { throw fault }
    let descriptor = try readDescriptor(selector, orThrow: fault)
    guard descriptor.type == SystemType.ldt, descriptor.isPresent else { throw fault }
    cpu.pointee.ldtr = SegmentState(
      base: descriptor.base, limit: descriptor.limit, selector: selector, attributes: descriptor.attributes)
  }

  private func loadTaskCode(_ selector: UInt16, _ external: UInt32) throws(GuestFault) {
    let fault = GuestFault.invalidTSS(selectorError(selector, external))
    guard selector & 0xfffc != 0 else { throw fault }
    let code = try readDescriptor(selector, orThrow: fault)
    let rpl = UInt8(truncatingIfNeeded: selector & 3)
    guard code.isCode, code.isConforming ? code.dpl <= rpl : code.dpl == rpl else { throw fault }
    guard code.isPresent else { throw .segmentNotPresent(selectorError(selector, external)) }
    try setAccessed(code)
    cpu.pointee.segments.1 = code.segment(selector: selector)
  }

  private func loadTaskStack(_ selector: UInt16, _ external: UInt32) throws(GuestFault) {
    let fault = GuestFault.invalidTSS(selectorError(selector, external))
    guard selector & 0xfffc != 0 else { throw fault }
    let stack = try readDescriptor(selector, orThrow: fault)
    guard stack.isWritableData, stack.dpl == cpu.pointee.cpl, selector & 3 == UInt16(cpu.pointee.cpl) else {
      throw fault
    }
    guard stack.isPresent else { throw .stackFault(selectorError(selector, external)) }
    try setAccessed(stack)
    cpu.pointee.segments.2 = stack.segment(selector: selector)
  }

  private func loadTaskData(_ number: Int, _ selector: UInt16, _ external: UInt32) throws(GuestFault) {
    guard selector & 0xfffc != 0 else { return }
    let fault = GuestFault.invalidTSS(selectorError(selector, external))
    let data = try readDescriptor(selector, orThrow: fault)
    let rpl = UInt8(truncatingIfNeeded: selector & 3)
    guard data.isReadable, data.isConforming || data.dpl >= max(rpl, cpu.pointee.cpl) else { throw fault }
    guard data.isPresent else { throw .segmentNotPresent(selectorError(selector, external)) }
    try setAccessed(data)
    setSegment(number, data.segment(selector: selector))
  }
}
