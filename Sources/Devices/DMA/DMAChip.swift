/// One of the two 8237A chips: four channels, each with an address, a count and a mode (Intel 8237A data sheet, "Register
/// Description"). It counts; who moves the bytes is the controller.
struct DMAChip: Codable, Equatable, Sendable {
  struct Channel: Codable, Equatable, Sendable {
    var baseAddress: UInt16 = 0
    /// Transfers less one.
    var baseCount: UInt16 = 0
    var address: UInt16 = 0
    var count: UInt16 = 0
    var mode: UInt8 = 0

    /// Starts over with the base values when the count is through.
    var isAutomatic: Bool { mode & 0x10 != 0 }
    var descends: Bool { mode & 0x20 != 0 }
    /// 1: to memory, 2: from memory, 0: neither.
    var direction: UInt8 { mode >> 2 & 3 }
  }

  /// Offsets of the registers behind those of the channels.
  private enum Register {
    static let command: UInt8 = 8
    static let request: UInt8 = 9
    static let maskOne: UInt8 = 10
    static let mode: UInt8 = 11
    static let clearFlipFlop: UInt8 = 12
    static let masterClear: UInt8 = 13
    static let clearMask: UInt8 = 14
    static let maskAll: UInt8 = 15
  }

  /// The whole controller is switched off.
  private static let disable: UInt8 = 1 << 2

  var channels = [Channel](repeating: Channel(), count: 4)
  private var command: UInt8 = 0
  private var mask: UInt8 = 0xf
  private var requests: UInt8 = 0
  /// Channels whose counts have been through since the status was read.
  private var terminalCounts: UInt8 = 0
  /// The next byte of an address or a count is the upper one.
  private var isUpper = false

  mutating func read(_ register: UInt8) -> UInt8 {
    switch register {
    case 0..<8:
      let channel = channels[Int(register >> 1)]
      return half(register & 1 == 0 ? channel.address : channel.count)
    case Register.command:
      let status = requests << 4 | terminalCounts
      terminalCounts = 0
      return status
    // The temporary register, of memory-to-memory transfers, which PCs do not have.
    case Register.masterClear: return 0
    case Register.maskAll: return 0xf0 | mask
    default: return 0xff
    }
  }

  private mutating func half(_ value: UInt16) -> UInt8 {
    defer { isUpper.toggle() }
    return UInt8(truncatingIfNeeded: isUpper ? value >> 8 : value)
  }

  mutating func write(_ register: UInt8, _ value: UInt8) {
    let bit: UInt8 = 1 << (value & 3)
    switch register {
    case 0..<8: writeChannel(register, value)
    case Register.command: command = value
    case Register.request: requests = value & 4 != 0 ? requests | bit : requests & ~bit
    case Register.maskOne: mask = value & 4 != 0 ? mask | bit : mask & ~bit
    case Register.mode: channels[Int(value & 3)].mode = value & 0xfc
    case Register.clearFlipFlop: isUpper = false
    case Register.masterClear:
      (command, requests, terminalCounts, isUpper, mask) = (0, 0, 0, false, 0xf)
    case Register.clearMask: mask = 0
    case Register.maskAll: mask = value & 0xf
    default: break
    }
  }

  /// Base and current value are written together.
  private mutating func writeChannel(_ register: UInt8, _ value: UInt8) {
    let index = Int(register >> 1)
    let isAddress = register & 1 == 0
    var word = isAddress ? channels[index].baseAddress : channels[index].baseCount
    word = isUpper ? word & 0x00ff | UInt16(value) << 8 : word & 0xff00 | UInt16(value)
    isUpper.toggle()
    if isAddress {
      channels[index].baseAddress = word
      channels[index].address = word
    } else {
      channels[index].baseCount = word
      channels[index].count = word
    }
  }

  /// Whether a device's request on this channel is answered.
  func isOpen(_ channel: Int) -> Bool { mask >> UInt8(channel) & 1 == 0 && command & Self.disable == 0 }

  /// One transfer of channel `index`. Returns where it goes, and whether it was the last one.
  mutating func step(_ index: Int) -> (address: UInt16, isLast: Bool) {
    var channel = channels[index]
    let address = channel.address
    channel.address = channel.descends ? address &- 1 : address &+ 1
    channel.count &-= 1
    let isLast = channel.count == .max
    if isLast {
      let bit: UInt8 = 1 << UInt8(index)
      terminalCounts |= bit
      requests &= ~bit
      if channel.isAutomatic {
        channel.address = channel.baseAddress
        channel.count = channel.baseCount
      } else {
        mask |= bit
      }
    }
    channels[index] = channel
    return (address, isLast)
  }

  /// What a snapshot gave may be of any length.
  mutating func normalize() { channels = channels.resized(to: 4, with: Channel()) }
}
