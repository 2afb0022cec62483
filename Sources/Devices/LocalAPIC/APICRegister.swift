/// Register numbers of the local APIC: the offset in xAPIC's page divided by 16, and the MSR number less 0x800 in x2APIC
/// mode (SDM vol. 3A, tables 11-1 and 11-6).
enum APICRegister {
  static let id = 0x02
  static let version = 0x03
  static let taskPriority = 0x08
  static let arbitrationPriority = 0x09
  static let processorPriority = 0x0a
  static let endOfInterrupt = 0x0b
  static let remoteRead = 0x0c
  static let logicalDestination = 0x0d
  static let destinationFormat = 0x0e
  static let spuriousVector = 0x0f
  static let inService = 0x10...0x17
  static let triggerMode = 0x18...0x1f
  static let requested = 0x20...0x27
  static let errorStatus = 0x28
  static let commandLow = 0x30
  static let commandHigh = 0x31
  static let localVectors = 0x32...0x37
  static let initialCount = 0x38
  static let currentCount = 0x39
  static let divideConfiguration = 0x3e
  static let selfIPI = 0x3f
}

/// Model-specific registers that belong to the local APIC.
enum APICModelSpecificRegister {
  static let base: UInt32 = 0x1b
  static let timeStampDeadline: UInt32 = 0x6e0
  static let x2APIC: ClosedRange<UInt32> = 0x800...0x8ff
}

/// Bits of the error status register (SDM vol. 3A, 11.5.3).
enum APICError {
  static let sendIllegalVector: UInt8 = 1 << 5
  static let receiveIllegalVector: UInt8 = 1 << 6
  static let illegalRegister: UInt8 = 1 << 7
}
