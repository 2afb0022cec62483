/// One counter of the 8254 as its port shows it: counts go byte by byte through an 8-bit bus, and what is read can be
/// latched before.
struct PITPort: Codable {
  var channel: PITChannel
  private var readsHighByte = false
  private var writesHighByte = false
  private var lowByte: UInt8 = 0
  private var latchedCount: UInt16?
  private var latchedStatus: UInt8?

  init(gate: Bool) {
    channel = PITChannel(gate: gate)
  }

  mutating func setControl(_ bits: UInt8) {
    self = PITPort(gate: channel.gate)
    channel.setControl(bits)
  }

  /// Counter latch command. What is latched already stays until it has been read.
  mutating func latchCount(_ tick: UInt64) {
    if latchedCount == nil { latchedCount = channel.count(tick) }
  }

  /// Read-back command.
  mutating func latchStatus(_ tick: UInt64) {
    if latchedStatus == nil { latchedStatus = channel.status(tick) }
  }

  mutating func read(_ tick: UInt64) -> UInt8 {
    if let status = latchedStatus {
      latchedStatus = nil
      return status
    }
    let count = latchedCount ?? channel.count(tick)
    let isHigh = channel.access == 3 ? readsHighByte : channel.access == 2
    if channel.access == 3 { readsHighByte.toggle() }
    if channel.access != 3 || isHigh { latchedCount = nil }
    return UInt8(truncatingIfNeeded: isHigh ? count >> 8 : count)
  }

  mutating func write(_ byte: UInt8, _ tick: UInt64) {
    switch channel.access {
    case 1: channel.setCount(UInt16(byte), tick)
    case 2: channel.setCount(UInt16(byte) << 8, tick)
    case 3 where writesHighByte:
      writesHighByte = false
      channel.setCount(UInt16(byte) << 8 | UInt16(lowByte), tick)
    default:
      writesHighByte = true
      lowByte = byte
      channel.beginCount()
    }
  }
}
