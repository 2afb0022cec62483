import CHost
import X86

/// Bits of DR6 (SDM vol. 3B, 17.2.3).
enum DebugStatus {
  /// B0 to B3.
  static let breakpoints: UInt32 = 0xf
  /// BD: a debug register was accessed while DR7.GD was set.
  static let accessDetected: UInt32 = 1 << 13
  /// BS.
  static let singleStep: UInt32 = 1 << 14
  /// BT: the new task's TSS has its T bit set.
  static let taskSwitch: UInt32 = 1 << 15
  /// Bits that read as ones.
  static let fixed: UInt64 = 0xffff_0ff0
}

/// Bits of DR7.
enum DebugControl {
  /// L0 to G3: any breakpoint is enabled.
  static let enables: UInt64 = 0xff
  static let generalDetect: UInt64 = 1 << 13
  static let fixed: UInt64 = 0x400
  /// Bits that can be changed: all but 10 (one), 11, 12, 14 and 15 (zero; 11 is RTM's).
  static let loadable: UInt64 = 0xffff_23ff
}

/// Breakpoints and single steps (SDM vol. 3B, 17.2 and 17.3).
///
/// Under `CodeMode.stepping` the engine runs one instruction at a time, with `beginStep` before it and `endStep` after it.
/// Pages with data breakpoints are kept out of the TLB, so that all accesses to them come by `noteDataAccess`.
extension SoftwareProcessor {
  /// Before an instruction of stepping mode. What it returns is to be delivered instead of running the instruction: the
  /// fault of an instruction breakpoint.
  func beginStep() -> GuestFault? {
    events.breakpointHits = 0
    // An instruction with answers to its reads has begun before.
    if replay.isEmpty {
      if cpu.pointee.rflags & RFLAGS.rf == 0, !shadow.contains(.movSS) {
        let bits = instructionBreakpoint(at: linearInstructionAddress)
        if bits != 0 { return .debug(bits) }
      }
      cpu.pointee.rflags &= ~RFLAGS.rf
    }
    events.isSingleStep = cpu.pointee.rflags & RFLAGS.tf != 0
    events.stepStart = cpu.pointee.rip
    return nil
  }

  /// After an instruction of stepping mode that has completed: its traps become pending.
  func endStep() {
    cpu.pointee.pendingDebug |= events.breakpointHits
    events.breakpointHits = 0
    guard events.isSingleStep else { return }
    events.isSingleStep = false
    // MOV SS and POP SS do not trap (SDM vol. 3A, 6.8.3), unlike what runs in their shadow.
    if shadow.contains(.movSS), cpu.pointee.rip != events.stepStart { return }
    // Under BTF only branches trap; one that goes on right behind itself cannot be told from what is none.
    let distance = cpu.pointee.rip &- events.stepStart
    if cpu.pointee.debugControl & DebugMSR.branchTrapFlag != 0, 1...15 ~= distance { return }
    cpu.pointee.pendingDebug |= DebugStatus.singleStep
  }

  /// Where CS:RIP points.
  var linearInstructionAddress: UInt64 {
    isLongMode64 ? cpu.pointee.rip : (cpu.pointee.rip &+ cpu.pointee.segments.1.base) & 0xffff_ffff
  }

  /// DR6 bits of the enabled instruction breakpoints at a linear address.
  func instructionBreakpoint(at address: UInt64) -> UInt32 {
    var bits: UInt32 = 0
    for number in 0..<4 where condition(number) == 0 && breakpointAddress(number) == address {
      bits |= 1 << UInt32(number)
    }
    return bits
  }

  /// DR6 bits of the enabled breakpoints that an access to data touches.
  func dataBreakpoints(_ address: UInt64, count: Int, isWrite: Bool) -> UInt32 {
    var bits: UInt32 = 0
    for number in 0..<4 {
      let condition = condition(number)
      guard condition == 3 || (condition == 1 && isWrite) else { continue }
      if overlaps(number, address, count) { bits |= 1 << UInt32(number) }
    }
    return bits
  }

  /// DR6 bits of the enabled breakpoints on ports (CR4.DE) that an access touches.
  func portBreakpoints(_ port: UInt16, count: Int) -> UInt32 {
    guard cpu.pointee.cr4 & CR4.de != 0 else { return 0 }
    var bits: UInt32 = 0
    for number in 0..<4 where condition(number) == 2 && overlaps(number, UInt64(port), count) {
      bits |= 1 << UInt32(number)
    }
    return bits
  }

  /// Whether an enabled data breakpoint lies on the page of an address.
  @inline(__always)
  func hasDataBreakpoint(onPage address: UInt64) -> Bool {
    guard cpu.pointee.dr7 & DebugControl.enables != 0 else { return false }
    return dataBreakpoints(address & ~0xfff, count: 4096, isWrite: true) != 0
  }

  /// An instruction reads or writes data on a page that may have a breakpoint.
  @inline(__always)
  func noteDataAccess(_ address: UInt64, count: Int, isWrite: Bool) {
    guard cpu.pointee.dr7 & DebugControl.enables != 0 else { return }
    events.breakpointHits |= dataBreakpoints(address, count: count, isWrite: isWrite)
  }

  @inline(__always)
  func notePortAccess(_ port: UInt16, count: Int) {
    guard cpu.pointee.dr7 & DebugControl.enables != 0 else { return }
    events.breakpointHits |= portBreakpoints(port, count: count)
  }

  /// A debug exception was delivered: what caused it is recorded, and what would disturb its handler is switched off.
  /// Traps that waited behind MOV SS are delivered by it too.
  func noteDebugException(_ event: Event) {
    let waiting = cpu.pointee.pendingDebug
    cpu.pointee.pendingDebug = 0
    // INT1 itself leaves no trace.
    if event.source == .exception || waiting != 0 {
      cpu.pointee.dr6 =
        cpu.pointee.dr6 & ~UInt64(DebugStatus.breakpoints) | UInt64(event.debugBits) | UInt64(waiting)
    }
    cpu.pointee.dr7 &= ~DebugControl.generalDetect
    cpu.pointee.debugControl &= ~(DebugMSR.lastBranchRecord | DebugMSR.branchTrapFlag)
  }

  /// R/W field of a breakpoint; nil if it is disabled.
  private func condition(_ number: Int) -> Int? {
    guard cpu.pointee.dr7 >> UInt64(2 * number) & 3 != 0 else { return nil }
    return Int(cpu.pointee.dr7 >> UInt64(16 + 4 * number) & 3)
  }

  private func overlaps(_ number: Int, _ address: UInt64, _ count: Int) -> Bool {
    let length: UInt64 =
      switch cpu.pointee.dr7 >> UInt64(18 + 4 * number) & 3 {
      case 0: 1
      case 1: 2
      case 2: 8
      default: 4
      }
    let start = breakpointAddress(number) & ~(length - 1)
    return start &+ length &- 1 >= address && start <= address &+ UInt64(truncatingIfNeeded: count) &- 1
  }

  private func breakpointAddress(_ number: Int) -> UInt64 {
    let address: UInt64 =
      switch number {
      case 0: cpu.pointee.dr.0
      case 1: cpu.pointee.dr.1
      case 2: cpu.pointee.dr.2
      default: cpu.pointee.dr.3
      }
    return isLongMode ? address : address & 0xffff_ffff
  }
}
