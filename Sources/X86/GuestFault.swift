/// Exception vectors (SDM vol. 3A, 6.15).
public enum ExceptionVector: UInt8, Sendable {
  case divideError = 0
  case debug = 1
  case nonMaskableInterrupt = 2
  case breakpoint = 3
  case overflow = 4
  case boundRange = 5
  case invalidOpcode = 6
  case deviceNotAvailable = 7
  case doubleFault = 8
  case invalidTSS = 10
  case segmentNotPresent = 11
  case stackFault = 12
  case generalProtection = 13
  case pageFault = 14
  case x87FloatingPoint = 16
  case alignmentCheck = 17
  case machineCheck = 18
  case simdFloatingPoint = 19
  case controlProtection = 21

  /// Whether delivery pushes an error code.
  @inlinable public var pushesErrorCode: Bool {
    switch self {
    case .doubleFault, .invalidTSS, .segmentNotPresent, .stackFault, .generalProtection, .pageFault,
      .alignmentCheck, .controlProtection:
      true
    default: false
    }
  }
}

/// An instruction did not complete: an architectural exception, or it must first be answered from outside.
public enum GuestFault: Error, Equatable, Sendable {
  /// Deliver this exception; registers are as before the instruction.
  case exception(ExceptionVector, errorCode: UInt32)
  /// A page fault; `address` goes to CR2 when it is delivered.
  case pageFault(address: UInt64, errorCode: UInt32)
  /// Leave the engine (the exit is in the engine's hands) and execute the instruction again afterwards.
  case exit

  public static let invalidOpcode = GuestFault.exception(.invalidOpcode, errorCode: 0)
  public static let deviceNotAvailable = GuestFault.exception(.deviceNotAvailable, errorCode: 0)
  public static let divideError = GuestFault.exception(.divideError, errorCode: 0)
  public static func generalProtection(_ errorCode: UInt32 = 0) -> GuestFault {
    .exception(.generalProtection, errorCode: errorCode)
  }
  public static func stackFault(_ errorCode: UInt32 = 0) -> GuestFault {
    .exception(.stackFault, errorCode: errorCode)
  }
}
