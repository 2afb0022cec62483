/// A source of interrupts within a processor: an entry of the local vector table (SDM vol. 3A, 11.5.1), in the order of
/// their registers.
public enum LocalInterrupt: Int, CaseIterable, Sendable {
  case timer, thermalSensor, performanceCounter, line0, line1, error

  /// Bits that software can change.
  var writableBits: UInt32 {
    switch self {
    case .timer: 0x0007_00ff
    case .thermalSensor, .performanceCounter: 0x0001_07ff
    case .line0, .line1: 0x0001_a7ff
    case .error: 0x0001_00ff
    }
  }

  /// Bits that exist: a write in x2APIC mode with others set is refused.
  var definedBits: UInt32 {
    switch self {
    case .line0, .line1: writableBits | LocalVector.deliveryStatus | LocalVector.remoteIRR
    default: writableBits | LocalVector.deliveryStatus
    }
  }
}

/// Bits of a local vector table entry.
enum LocalVector {
  static let deliveryStatus: UInt32 = 1 << 12
  static let remoteIRR: UInt32 = 1 << 14
  static let levelTriggered: UInt32 = 1 << 15
  static let masked: UInt32 = 1 << 16
}
