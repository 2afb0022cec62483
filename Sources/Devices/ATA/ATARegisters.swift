/// The registers through which a host gives a drive a command's parameters (ATA8-ACS, 4.1 and 7.1). All but the device
/// register are two bytes deep: the 48-bit commands take what was written last and what was written before, as low and
/// high byte here.
struct ATARegisters: Codable, Equatable, Sendable {
  var features: UInt16 = 0
  var count: UInt16 = 0
  var low: UInt16 = 0
  var mid: UInt16 = 0
  var high: UInt16 = 0
  var device: UInt8 = 0

  /// Offsets in a command block.
  enum Offset {
    static let data: UInt64 = 0
    /// Features on writing, error on reading.
    static let features: UInt64 = 1
    static let count: UInt64 = 2
    static let low: UInt64 = 3
    static let mid: UInt64 = 4
    static let high: UInt64 = 5
    static let device: UInt64 = 6
    /// Command on writing, status on reading.
    static let command: UInt64 = 7
  }

  /// Bits of the device register.
  enum Device {
    static let head: UInt8 = 0x0f
    /// Drive 1 of a channel.
    static let second: UInt8 = 1 << 4
    static let lba: UInt8 = 1 << 6
    /// Bits that old hosts set and nobody reads.
    static let obsolete: UInt8 = 0xa0
  }

  var usesLBA: Bool { device & Device.lba != 0 }

  /// The address of a 28-bit command.
  var lba28: UInt64 {
    get {
      UInt64(low & 0xff) | UInt64(mid & 0xff) << 8 | UInt64(high & 0xff) << 16 | UInt64(device & Device.head) << 24
    }
    set {
      low = UInt16(truncatingIfNeeded: newValue & 0xff)
      mid = UInt16(truncatingIfNeeded: newValue >> 8 & 0xff)
      high = UInt16(truncatingIfNeeded: newValue >> 16 & 0xff)
      device = device & ~Device.head | UInt8(truncatingIfNeeded: newValue >> 24 & 0xf)
    }
  }

  /// The address of a 48-bit command.
  var lba48: UInt64 {
    get {
      UInt64(low & 0xff) | UInt64(mid & 0xff) << 8 | UInt64(high & 0xff) << 16
        | UInt64(low >> 8) << 24 | UInt64(mid >> 8) << 32 | UInt64(high >> 8) << 40
    }
    set {
      func register(_ lowShift: UInt64, _ highShift: UInt64) -> UInt16 {
        UInt16(truncatingIfNeeded: newValue >> lowShift & 0xff | (newValue >> highShift & 0xff) << 8)
      }
      low = register(0, 24)
      mid = register(8, 32)
      high = register(16, 40)
    }
  }

  /// Sectors of a 28-bit command: zero means 256.
  var count28: UInt64 { count & 0xff == 0 ? 256 : UInt64(count & 0xff) }

  /// Sectors of a 48-bit command: zero means 65536.
  var count48: UInt64 { count == 0 ? 65536 : UInt64(count) }

  /// Middle and high bytes of the address as packet commands use them: a count of bytes.
  var byteCount: UInt16 {
    get { mid & 0xff | high << 8 }
    set {
      mid = newValue & 0xff
      high = newValue >> 8
    }
  }

  /// A host writes register `offset`, 1 to 6.
  mutating func write(_ offset: UInt64, _ value: UInt8) {
    func push(_ register: inout UInt16) { register = register << 8 | UInt16(value) }
    switch offset {
    case Offset.features: push(&features)
    case Offset.count: push(&count)
    case Offset.low: push(&low)
    case Offset.mid: push(&mid)
    case Offset.high: push(&high)
    case Offset.device: device = value
    default: break
    }
  }

  /// What a host reads from register `offset`, 2 to 6; `previous` selects what was written before.
  func read(_ offset: UInt64, previous: Bool) -> UInt8 {
    func pick(_ register: UInt16) -> UInt8 { UInt8(truncatingIfNeeded: previous ? register >> 8 : register) }
    return switch offset {
    case Offset.count: pick(count)
    case Offset.low: pick(low)
    case Offset.mid: pick(mid)
    case Offset.high: pick(high)
    case Offset.device: device | Device.obsolete
    default: 0
    }
  }
}
