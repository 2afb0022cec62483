import Machine

/// The I/O APIC (Intel 82093AA data sheet; with version 0x20 the EOI register of the ICH datasheets).
///
/// Each of 24 pins has a redirection entry that says which message its interrupt becomes. An edge sends one message. A
/// level sends one and sets the entry's Remote IRR; when a local APIC reports the end of that vector, or the guest writes
/// it to the EOI register, Remote IRR clears, and a level that is still there sends the next.
///
/// Pins carry assertion, not voltage: `line(_:)` is high while the interrupt is asserted, and the polarity bit is only
/// remembered. Messages are delivered at once, so the delivery status always reads idle.
///
/// Region 0 is the register page, usually 4 KiB at 0xfec00000: index at 0x00, data at 0x10, EOI at 0x40.
public final class IOAPIC {
  /// What the version register says.
  public enum Version: UInt8, Sendable {
    /// 82093AA: a level-triggered interrupt ends by the local APIC's broadcast only.
    case original = 0x11
    /// With the EOI register at offset 0x40.
    case withEndOfInterrupt = 0x20
  }

  public static let pinCount = 24
  /// Where a PC has it.
  public static let defaultAddress: UInt64 = 0xfec0_0000
  /// Bytes of the register page.
  public static let pageSize: UInt64 = 0x1000

  private let fabric: InterruptFabric
  private let version: Version
  @exclusivity(unchecked) private var state = State()
  private var guestErrors = GuestErrorLog(device: "ioapic")

  /// - Parameter fabric: takes the messages and reports ends of interrupts.
  public init(_ fabric: InterruptFabric, version: Version = .withEndOfInterrupt) {
    self.fabric = fabric
    self.version = version
    fabric.observeEndOfInterrupt { [unowned self] vector in endOfInterrupt(vector) }
  }

  /// The wire of an input pin, 0 to 23. On a PC, ISA interrupt 0 leads to pin 2 and the others to the pin of their number.
  public func line(_ pin: Int) -> InterruptLine {
    precondition(0..<Self.pinCount ~= pin, "an I/O APIC has 24 pins")
    return InterruptLine { [unowned self] level in setPin(pin, level) }
  }

  private func setPin(_ pin: Int, _ level: Bool) {
    let bit: UInt32 = 1 << UInt32(pin)
    let isRise = level && state.levels & bit == 0
    state.levels = level ? state.levels | bit : state.levels & ~bit
    guard level else { return }
    let entry = RedirectionEntry(state.entries[pin])
    if entry.isLevelTriggered {
      evaluateLevel(pin)
    } else if isRise, !entry.isMasked {
      // An edge on a masked pin is lost (82093AA, 3.2.4, bit 16).
      fabric.send(entry.message)
    }
  }

  /// Sends the message of a level-triggered pin that is asserted, open, and has nothing outstanding.
  private func evaluateLevel(_ pin: Int) {
    let entry = RedirectionEntry(state.entries[pin])
    guard state.levels & 1 << UInt32(pin) != 0, entry.isLevelTriggered, !entry.isMasked, !entry.remoteIRR
    else { return }
    if fabric.send(entry.message) { state.entries[pin] |= RedirectionEntry.remoteIRRBit }
  }

  /// A local APIC, or the EOI register, finished a vector.
  private func endOfInterrupt(_ vector: UInt8) {
    for pin in 0..<Self.pinCount {
      let entry = RedirectionEntry(state.entries[pin])
      guard entry.vector == vector, entry.remoteIRR else { continue }
      state.entries[pin] &= ~RedirectionEntry.remoteIRRBit
      evaluateLevel(pin)
    }
  }

  // MARK: Registers

  private func readRegister(_ index: UInt8) -> UInt32 {
    switch index {
    case 0, 2: return UInt32(state.identifier) << 24
    case 1: return UInt32(version.rawValue) | UInt32(Self.pinCount - 1) << 16
    case 0x10..<UInt8(0x10 + 2 * Self.pinCount):
      let entry = state.entries[Int(index - 0x10) >> 1]
      return UInt32(truncatingIfNeeded: index & 1 == 0 ? entry : entry >> 32)
    default:
      guestErrors.note("read of register \(index.hexadecimal), which does not exist")
      return 0xffff_ffff
    }
  }

  private func writeRegister(_ index: UInt8, _ value: UInt32) {
    switch index {
    case 0: state.identifier = UInt8(truncatingIfNeeded: value >> 24) & 0xf
    case 1, 2: break
    case 0x10..<UInt8(0x10 + 2 * Self.pinCount):
      writeEntry(Int(index - 0x10) >> 1, isHigh: index & 1 != 0, value)
    default: guestErrors.note("write of \(value.hexadecimal) to register \(index.hexadecimal), which does not exist")
    }
  }

  private func writeEntry(_ pin: Int, isHigh: Bool, _ value: UInt32) {
    let old = state.entries[pin]
    var new = isHigh ? old & 0xffff_ffff | UInt64(value) << 32 : old & ~0xffff_ffff | UInt64(value)
    new = new & RedirectionEntry.writableBits | old & RedirectionEntry.remoteIRRBit
    // Remote IRR means nothing for edges and is gone when the entry is level-triggered again: how systems without the
    // EOI register finish an interrupt by hand.
    if !RedirectionEntry(new).isLevelTriggered { new &= ~RedirectionEntry.remoteIRRBit }
    state.entries[pin] = new
    evaluateLevel(pin)
  }
}

extension IOAPIC: Device {
  public struct State: Codable {
    var index: UInt8 = 0
    var identifier: UInt8 = 0
    /// Redirection entries, one for each pin.
    var entries = [UInt64](repeating: RedirectionEntry.maskBit, count: IOAPIC.pinCount)
    /// A bit for each pin that is asserted.
    var levels: UInt32 = 0
  }

  public var name: String { "ioapic" }

  public func attach(to platform: DevicePlatform) {
    guestErrors.start(platform.log)
  }

  /// The wires keep the levels that their devices give them.
  public func reset() {
    state = State(levels: state.levels)
  }

  public func read(region: Int, offset: UInt64, size: Int) -> UInt64 {
    switch offset {
    case 0x00: return UInt64(state.index)
    case 0x10: return UInt64(readRegister(state.index)) & (size >= 4 ? .max : (1 << UInt64(size * 8)) - 1)
    default: return 0
    }
  }

  public func write(region: Int, offset: UInt64, size: Int, value: UInt64) {
    switch offset {
    case 0x00: state.index = UInt8(truncatingIfNeeded: value)
    case 0x10 where size >= 4: writeRegister(state.index, UInt32(truncatingIfNeeded: value))
    case 0x40 where version == .withEndOfInterrupt: endOfInterrupt(UInt8(truncatingIfNeeded: value))
    default: guestErrors.note("write of \(value.hexadecimal) to offset \(offset.hexadecimal) is ignored")
    }
  }

  public func save() -> State { state }

  public func restore(_ state: State) {
    self.state = state
    self.state.entries = state.entries.resized(to: Self.pinCount, with: RedirectionEntry.maskBit)
  }
}
