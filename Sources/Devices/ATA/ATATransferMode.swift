/// How fast data moves, as a host chooses by SET FEATURES (ATA8-ACS, 7.45.6). It changes nothing but what IDENTIFY data
/// say.
struct ATATransferMode: Codable, Equatable, Sendable {
  /// Bit of the selected multiword DMA mode, zero: none.
  private(set) var multiword: UInt16 = 0
  /// Bit of the selected Ultra DMA mode, zero: none.
  private(set) var ultra: UInt16 = 1 << 5

  /// Words 63 and 88 of IDENTIFY data: supported modes in the low byte, the selected one in the high byte.
  var multiwordWord: UInt16 { 0x0007 | multiword << 8 }
  var ultraWord: UInt16 { 0x003f | ultra << 8 }

  /// Takes over the sector count register's value; false where there is no such mode.
  mutating func select(_ value: UInt8) -> Bool {
    let mode = UInt16(value & 7)
    switch value >> 3 {
    case 0: return mode <= 1
    case 1: return mode <= 4
    case 0b00100 where mode <= 2: (multiword, ultra) = (1 << mode, 0)
    case 0b01000 where mode <= 5: (multiword, ultra) = (0, 1 << mode)
    default: return false
    }
    return true
  }
}
