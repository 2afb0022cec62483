import CHost
import X86

/// Delivery of interrupts and exceptions (SDM vol. 3A, chapter 6), for all modes.
///
/// **How it works.** `deliver` tries to start the handler; whatever goes wrong on the way is thrown as a `GuestFault`
/// before any register has changed, becomes the next event (itself, #DF, or the end: shutdown) and is tried in turn. The
/// chain is a loop with a bound. What starting a handler means is in one file for each kind of mode: `LongModeDelivery`,
/// `ProtectedModeDelivery`, `RealModeDelivery`, and `TaskSwitch` for task gates.
///
/// **Where RIP is.** Outside semantic functions `cpu.rip` is the next instruction, or the one that faulted. Every pushed
/// return address is the event's own, and faults on the way take `cpu.rip`.
///
/// **What the outer loop does**, each time that it is back from a chain:
/// 1. `deliver(fault)` when an instruction threw. False: it needs an answer from outside before it can be delivered; leave
///    the engine and run the instruction again.
/// 2. `deliverPendingEvents()` before the next instruction: debug traps, NMI, external interrupt, in this order, as far as
///    the processor is open for them. Its answer says how far it may run without asking again.
/// 3. Under `CodeMode.stepping`, `beginStep` before and `endStep` after each single instruction (`SoftwareProcessor+Debug`).
extension SoftwareProcessor {
  /// How far execution may go on.
  enum EventOutcome {
    /// Until something happens.
    case runFreely
    /// For one instruction: something waits, and the processor is closed for it just now.
    case runOneInstruction
    /// Not at all: halted, waiting for SIPI or shut down, and nothing to wake it.
    case stayInactive
    /// An answer from outside is needed to deliver something: leave the engine with the posted exit, and call again.
    case leaveForAnswer
    /// Not yet: the handler is a task whose TSS has its T bit set, and that trap comes first. Call again.
    case trapsAtOnce
  }

  /// Delivers a fault of the instruction at `cpu.rip`. False if an answer from outside is needed first (or `fault` asks
  /// for one): then no register but CR2 has changed.
  @discardableResult
  func deliver(_ fault: GuestFault) -> Bool {
    guard let event = Event(fault, returnAddress: cpu.pointee.rip) else { return false }
    if case .pageFault(let address, _) = fault { cpu.pointee.cr2 = address }
    return deliver(event)
  }

  /// Delivers an interrupt of the given kind. `cpu.rip` is where faults on the way return to; `returnAddress` where the
  /// handler does. False as for `deliver(_:)`.
  @discardableResult
  func deliverInterrupt(_ vector: UInt8, _ source: Event.Source, returnAddress: UInt64, debugBits: UInt32 = 0) -> Bool {
    deliver(Event(vector, source, returnAddress: returnAddress, debugBits: debugBits))
  }

  private func deliver(_ first: Event) -> Bool {
    var event = first
    for _ in 0..<8 {
      do throws(GuestFault) {
        try start(event)
        noteDelivered(event)
        return true
      } catch {
        if case .exit = error { return false }
        if case .pageFault(let address, _) = error { cpu.pointee.cr2 = address }
        guard let next = event.followed(by: error, returnAddress: cpu.pointee.rip) else { break }
        event = next
      }
    }
    replay.clear()
    cpu.pointee.activity = .shutdown
    cpu.pointee.engine.stopReason |= StopReason.serialize
    return true
  }

  /// Starts the handler; throws with all registers as they were, except for a task switch that was already made.
  @inline(__always)
  private func start(_ event: Event) throws(GuestFault) {
    if isLongMode {
      try startInLongMode(event)
    } else if isProtectedMode {
      try startInProtectedMode(event)
    } else {
      try startInRealMode(event)
    }
  }

  @inline(__always)
  private func noteDelivered(_ event: Event) {
    replay.clear()
    events.isSingleStep = false
    cpu.pointee.interruptShadow = []
    if event.source == .nonMaskableInterrupt { cpu.pointee.nmiBlocked = 1 }
    if event.vector == ExceptionVector.debug.rawValue,
      event.source == .exception || event.source == .privilegedSoftwareException
    {
      noteDebugException(event)
    }
  }

  /// RFLAGS as an event pushes it.
  @inline(__always)
  func flagsImage(_ event: Event) -> UInt64 {
    event.setsResumeFlag ? cpu.pointee.rflags | RFLAGS.rf : cpu.pointee.rflags
  }

  /// RFLAGS in the handler.
  @inline(__always)
  func clearFlagsForHandler(masksInterrupts: Bool) {
    var cleared = RFLAGS.tf | RFLAGS.nt | RFLAGS.rf | RFLAGS.vm
    if masksInterrupts { cleared |= RFLAGS.if }
    cpu.pointee.rflags &= ~cleared
  }

  // MARK: Between instructions

  /// Whether something waits that a change of RFLAGS.IF, of the NMI blocking or of the shadow may let in. Cheap.
  @inline(__always)
  var hasWaitingEvents: Bool {
    cpu.pointee.interruptPending | cpu.pointee.nmiPending | cpu.pointee.wantsInterruptWindow != 0
  }

  /// The interrupt shadow of the next instruction.
  @inline(__always) var shadow: InterruptShadow { cpu.pointee.interruptShadow }

  /// The instruction behind `op` shall run before any interrupt is taken.
  @inline(__always)
  func castShadow(_ shadow: InterruptShadow, behind op: Op) {
    cpu.pointee.interruptShadow = shadow
    cpu.pointee.engine.shadowBudget = cpu.pointee.engine.budget &+ Chain.unspent(cpu, op.pointee.number &+ 1)
  }

  /// Ends the interrupt shadow if any instruction has run since it was cast. To be called when a chain has stopped.
  @inline(__always)
  func dropShadow(unlessCastAt budget: Int64) {
    if cpu.pointee.engine.shadowBudget != budget { cpu.pointee.interruptShadow = [] }
  }

  /// Whether an external interrupt would be taken now.
  var canTakeInterrupt: Bool { cpu.pointee.rflags & RFLAGS.if != 0 && shadow == [] && replay.isEmpty }

  /// Delivers what is pending and may be taken before the instruction at `cpu.rip`, in the order of SDM vol. 3A, table
  /// 6-2: traps of the last instruction, NMI, external interrupt. Ends HLT when something is delivered.
  ///
  /// With `runOneInstruction` the shadow has been used up: that instruction is the one that it covered.
  func deliverPendingEvents() -> EventOutcome {
    // An instruction that has answers to its reads has begun, and ends first.
    guard replay.isEmpty || events.awaitsAnswer else { return hasAnythingPending ? .runOneInstruction : .runFreely }
    events.awaitsAnswer = false
    guard cpu.pointee.activity == .running || cpu.pointee.activity == .halted else { return .stayInactive }
    if shadow.contains(.movSS), hasAnythingPending { return useUpShadow() }
    if cpu.pointee.pendingDebug != 0 {
      let bits = cpu.pointee.pendingDebug
      guard take(ExceptionVector.debug.rawValue, .exception, debugBits: bits) else { return .leaveForAnswer }
      cpu.pointee.pendingDebug = 0
    }
    if cpu.pointee.nmiPending != 0, cpu.pointee.nmiBlocked == 0, cpu.pointee.activity != .shutdown {
      guard take(ExceptionVector.nonMaskableInterrupt.rawValue, .nonMaskableInterrupt) else { return .leaveForAnswer }
      cpu.pointee.nmiPending &-= 1
      if cpu.pointee.pendingDebug != 0 { return .trapsAtOnce }
    }
    if cpu.pointee.rflags & RFLAGS.if != 0, cpu.pointee.activity != .shutdown {
      if cpu.pointee.interruptPending | cpu.pointee.wantsInterruptWindow != 0, shadow != [] { return useUpShadow() }
      if cpu.pointee.interruptPending != 0 {
        guard take(cpu.pointee.interruptVector, .externalInterrupt) else { return .leaveForAnswer }
        cpu.pointee.interruptPending = 0
        if cpu.pointee.pendingDebug != 0 { return .trapsAtOnce }
      }
    }
    return cpu.pointee.activity == .running ? .runFreely : .stayInactive
  }

  /// Delivers a pending event and wakes the processor. False if an answer from outside is needed first.
  private func take(_ vector: UInt8, _ source: Event.Source, debugBits: UInt32 = 0) -> Bool {
    guard deliverInterrupt(vector, source, returnAddress: cpu.pointee.rip, debugBits: debugBits) else {
      events.awaitsAnswer = true
      return false
    }
    if cpu.pointee.activity == .halted { cpu.pointee.activity = .running }
    return true
  }

  private var hasAnythingPending: Bool { hasWaitingEvents || cpu.pointee.pendingDebug != 0 }

  private func useUpShadow() -> EventOutcome {
    // MOV SS holds back an instruction breakpoint too; `beginStep` clears the flag.
    if cpu.pointee.interruptShadow.contains(.movSS), cpu.pointee.dr7 & DebugControl.enables != 0 {
      cpu.pointee.rflags |= RFLAGS.rf
    }
    cpu.pointee.interruptShadow = []
    return cpu.pointee.activity == .running ? .runOneInstruction : .stayInactive
  }
}
