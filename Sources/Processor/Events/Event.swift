import X86

/// An interrupt or exception on its way through the interrupt descriptor table.
struct Event {
  /// What caused it. Decides whether a gate's DPL counts, and the EXT bit of faults on the way.
  enum Source: UInt8 {
    case externalInterrupt
    case nonMaskableInterrupt
    /// Raised by the processor: a fault, a trap, #DF.
    case exception
    /// INT n.
    case softwareInterrupt
    /// INT3 and INTO.
    case softwareException
    /// INT1.
    case privilegedSoftwareException
  }

  let vector: UInt8
  let source: Source
  let errorCode: UInt32
  let pushesErrorCode: Bool
  /// RIP to push.
  let returnAddress: UInt64
  /// RFLAGS.RF of the image to push: set for faults, so that an instruction breakpoint does not strike again (SDM vol. 3B,
  /// 17.3.1.1).
  let setsResumeFlag: Bool
  /// Bits to set in DR6 (#DB only).
  let debugBits: UInt32

  /// An interrupt or software exception, which has no error code.
  init(_ vector: UInt8, _ source: Source, returnAddress: UInt64, debugBits: UInt32 = 0) {
    self.vector = vector
    self.source = source
    errorCode = 0
    pushesErrorCode = false
    self.returnAddress = returnAddress
    setsResumeFlag = false
    self.debugBits = debugBits
  }

  /// A fault of the instruction at `returnAddress`. Nil for `GuestFault.exit`.
  init?(_ fault: GuestFault, returnAddress: UInt64) {
    source = .exception
    self.returnAddress = returnAddress
    switch fault {
    case .exit:
      return nil
    case .pageFault(_, let errorCode):
      vector = ExceptionVector.pageFault.rawValue
      self.errorCode = errorCode
      pushesErrorCode = true
      setsResumeFlag = true
      debugBits = 0
    case .exception(.debug, let bits):
      vector = ExceptionVector.debug.rawValue
      errorCode = 0
      pushesErrorCode = false
      // An instruction breakpoint is reported with RF as it was; general detect is a fault like others.
      setsResumeFlag = bits & DebugStatus.accessDetected != 0
      debugBits = bits
    case .exception(let exception, let errorCode):
      vector = exception.rawValue
      self.errorCode = errorCode
      pushesErrorCode = exception.pushesErrorCode
      setsResumeFlag = exception != .doubleFault && exception != .machineCheck
      debugBits = 0
    }
  }

  /// Whether it comes from INT n, INT3 or INTO, for which a gate's DPL must be at least CPL.
  @inline(__always) var isSoftware: Bool { source == .softwareInterrupt || source == .softwareException }

  /// The EXT bit of error codes of faults on the way.
  @inline(__always) var external: UInt32 { isSoftware ? 0 : 1 }

  /// Error code of a fault in the gate itself.
  @inline(__always) var gateError: UInt32 { UInt32(vector) << 3 | 2 | external }

  /// Classes of exceptions for the double fault (SDM vol. 3A, table 6-5).
  private enum Severity {
    case benign, contributory, pageFault, doubleFault
  }

  private static func severity(_ vector: UInt8) -> Severity {
    switch vector {
    case 0, 10, 11, 12, 13, 21: .contributory
    case 14: .pageFault
    case 8: .doubleFault
    default: .benign
    }
  }

  /// What is to be delivered when `fault` came up on this event's way: that fault, a double fault, or (nil) nothing any
  /// more: the processor shuts down. `fault` is not `exit`.
  func followed(by fault: GuestFault, returnAddress: UInt64) -> Event? {
    guard let next = Event(fault, returnAddress: returnAddress) else { return nil }
    guard source == .exception else { return next }
    let second = Self.severity(next.vector)
    switch Self.severity(vector) {
    case .benign: return next
    case .contributory: if second != .contributory { return next }
    case .pageFault: if second != .contributory, second != .pageFault { return next }
    case .doubleFault: return second == .benign ? next : nil
    }
    return Event(.exception(.doubleFault, errorCode: 0), returnAddress: returnAddress)
  }
}
