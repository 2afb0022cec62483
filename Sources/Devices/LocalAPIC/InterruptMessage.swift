/// What one interrupt controller sends to others: an interprocessor interrupt, an I/O APIC's message or an MSI
/// (SDM vol. 3A, 11.6 and 11.11).
public struct InterruptMessage: Equatable, Sendable {
  /// Bits 10:8 of ICR, local vector table, redirection entries and MSI data.
  public enum DeliveryMode: UInt8, Codable, Sendable {
    case fixed = 0
    case lowestPriority = 1
    case systemManagement = 2
    case reserved = 3
    case nonMaskable = 4
    case initialize = 5
    case startUp = 6
    /// The processor takes the vector from the 8259.
    case external = 7

    /// From the low three bits of `bits`.
    @inline(__always) init(bits: UInt32) {
      self = DeliveryMode(rawValue: UInt8(truncatingIfNeeded: bits & 7)) ?? .reserved
    }
  }

  public var vector: UInt8
  public var deliveryMode: DeliveryMode
  /// An APIC ID, or a set of logical IDs.
  public var destination: UInt32
  public var isLogical: Bool
  public var isLevelTriggered: Bool
  /// `destination` has 32 bits (a sender in x2APIC mode): 0xff is then no broadcast.
  public var hasWideDestination: Bool

  public init(
    vector: UInt8, deliveryMode: DeliveryMode, destination: UInt32, isLogical: Bool, isLevelTriggered: Bool,
    hasWideDestination: Bool = false
  ) {
    self.vector = vector
    self.deliveryMode = deliveryMode
    self.destination = destination
    self.isLogical = isLogical
    self.isLevelTriggered = isLevelTriggered
    self.hasWideDestination = hasWideDestination
  }

  /// A message-signalled interrupt: a 32-bit write of `data` to `address` (SDM vol. 3A, 11.11). Nil where it is none:
  /// an address outside 0xfee00000 to 0xfeefffff, or the deassertion of a level, which no local APIC acts on.
  public init?(address: UInt64, data: UInt32) {
    guard address >> 20 == 0xfee else { return nil }
    let isLevelTriggered = data & 1 << 15 != 0
    guard !isLevelTriggered || data & 1 << 14 != 0 else { return nil }
    let isLogical = address & 1 << 2 != 0
    let isRedirectable = address & 1 << 3 != 0
    var mode = DeliveryMode(bits: data >> 8)
    if mode == .fixed, isRedirectable, isLogical { mode = .lowestPriority }
    self.init(
      vector: UInt8(truncatingIfNeeded: data), deliveryMode: mode,
      destination: UInt32(truncatingIfNeeded: address >> 12) & 0xff, isLogical: isLogical,
      isLevelTriggered: isLevelTriggered)
  }

  /// All ones: every local APIC.
  var isBroadcast: Bool { destination == (hasWideDestination ? 0xffff_ffff : 0xff) }
}
