/// What becomes of an interrupt at a pin of the I/O APIC (82093AA data sheet, 3.2.4).
struct RedirectionEntry {
  static let remoteIRRBit: UInt64 = 1 << 14
  static let maskBit: UInt64 = 1 << 16
  /// All but delivery status (12), Remote IRR (14) and the reserved bits 55:17.
  static let writableBits: UInt64 = 0xff00_0000_0001_afff

  private let bits: UInt64

  init(_ bits: UInt64) {
    self.bits = bits
  }

  var vector: UInt8 { UInt8(truncatingIfNeeded: bits) }
  var isMasked: Bool { bits & Self.maskBit != 0 }
  var remoteIRR: Bool { bits & Self.remoteIRRBit != 0 }
  var deliveryMode: InterruptMessage.DeliveryMode { .init(bits: UInt32(truncatingIfNeeded: bits >> 8)) }

  /// Only fixed and lowest-priority interrupts have levels; the others are edges whatever bit 15 says.
  var isLevelTriggered: Bool {
    guard bits & 1 << 15 != 0 else { return false }
    return deliveryMode == .fixed || deliveryMode == .lowestPriority
  }

  var message: InterruptMessage {
    InterruptMessage(
      vector: vector, deliveryMode: deliveryMode, destination: UInt32(truncatingIfNeeded: bits >> 56),
      isLogical: bits & 1 << 11 != 0, isLevelTriggered: isLevelTriggered)
  }
}
