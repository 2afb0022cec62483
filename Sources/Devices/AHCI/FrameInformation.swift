/// What host and drive send each other over the cable (Serial ATA revision 3.0, 10.3; FIS: frame information structure).
enum FrameInformation {
  enum Kind {
    static let registerToDevice: UInt8 = 0x27
    static let registerToHost: UInt8 = 0x34
    static let setupPIO: UInt8 = 0x5f
    static let setDeviceBits: UInt8 = 0xa1
  }

  /// Where the controller puts what it receives (AHCI 1.3.1, 4.2.1).
  enum ReceiveOffset {
    static let setupPIO: UInt64 = 0x20
    static let registerToHost: UInt64 = 0x40
    static let setDeviceBits: UInt64 = 0x58
  }

  static let interruptBit: UInt8 = 1 << 6

  /// What a host sends to start a command, or to change the device control register.
  struct ToDevice {
    let isCommand: Bool
    let command: UInt8
    let control: UInt8
    let registers: ATARegisters

    /// Nil where it is something else.
    init?(_ bytes: [UInt8]) {
      guard bytes.count >= 20, bytes[0] == Kind.registerToDevice else { return nil }
      func pair(_ low: Int, _ high: Int) -> UInt16 { UInt16(bytes[low]) | UInt16(bytes[high]) << 8 }
      isCommand = bytes[1] & 0x80 != 0
      command = bytes[2]
      control = bytes[15]
      registers = ATARegisters(
        features: pair(3, 11), count: pair(12, 13), low: pair(4, 8), mid: pair(5, 9), high: pair(6, 10),
        device: bytes[7])
    }
  }

  /// The registers as a command leaves them.
  static func registersToHost(_ outcome: ATAOutcome, interrupts: Bool) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: 20)
    bytes[0] = Kind.registerToHost
    bytes[1] = interrupts ? interruptBit : 0
    bytes[2] = outcome.status.rawValue
    bytes[3] = outcome.error.rawValue
    put(outcome.registers, in: &bytes)
    return bytes
  }

  /// PIO data come to the host, or go to the drive: the registers before and after, and how much.
  static func setupPIO(_ transfer: ATATransfer, ending: ATAOutcome, count: Int, interrupts: Bool) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: 20)
    bytes[0] = Kind.setupPIO
    bytes[1] = (interrupts ? interruptBit : 0) | (transfer.direction == .toHost ? 1 << 5 : 0)
    bytes[2] = ATAStatus.idle.union(.dataRequest).rawValue
    bytes[3] = ending.error.rawValue
    put(ending.registers, in: &bytes)
    bytes[15] = ending.status.rawValue
    bytes[16] = UInt8(truncatingIfNeeded: count)
    bytes[17] = UInt8(truncatingIfNeeded: count >> 8)
    return bytes
  }

  /// Queued commands have ended, those of `tags`.
  static func setDeviceBits(_ status: ATAStatus, _ error: ATAError, tags: UInt32) -> [UInt8] {
    let visible = status.rawValue & 0x77
    return [Kind.setDeviceBits, interruptBit, visible, error.rawValue]
      + (0..<4).map { UInt8(truncatingIfNeeded: tags >> (8 * UInt32($0))) }
  }

  private static func put(_ registers: ATARegisters, in bytes: inout [UInt8]) {
    func put(_ register: UInt16, _ low: Int, _ high: Int) {
      bytes[low] = UInt8(truncatingIfNeeded: register)
      bytes[high] = UInt8(truncatingIfNeeded: register >> 8)
    }
    put(registers.low, 4, 8)
    put(registers.mid, 5, 9)
    put(registers.high, 6, 10)
    put(registers.count, 12, 13)
    bytes[7] = registers.device
  }
}
