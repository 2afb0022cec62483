import Memory
import X86

/// The bus master of one IDE channel (Intel, Programming Interface for Bus Master IDE Controller 1.0; 82371SB datasheet,
/// 2.5): three registers, and a table of regions in guest memory.
struct IDEBusMaster: Codable, Equatable {
  enum Offset {
    static let command: UInt64 = 0
    static let status: UInt64 = 2
    static let table: UInt64 = 4
  }

  enum Command {
    static let start: UInt8 = 1 << 0
    static let toMemory: UInt8 = 1 << 3
  }

  struct Status: OptionSet, Codable, Equatable {
    let rawValue: UInt8
    static let active = Status(rawValue: 1 << 0)
    static let error = Status(rawValue: 1 << 1)
    /// The drive's interrupt has risen.
    static let interrupt = Status(rawValue: 1 << 2)
    /// What firmware notes about the drives' being set up for DMA.
    static let capable = Status(rawValue: 3 << 5)
  }

  /// What the table describes.
  struct Regions {
    var segments = GuestSegments()
    /// The table has exactly as much as was wanted, or less.
    var isExhausted = false
  }

  private(set) var command: UInt8 = 0
  private(set) var status: Status = []
  private(set) var table: UInt32 = 0

  var isStarted: Bool { command & Command.start != 0 }

  func read(_ offset: UInt64) -> UInt8 {
    switch offset {
    case Offset.command: command
    case Offset.status: status.rawValue
    case Offset.table..<Offset.table + 4: UInt8(truncatingIfNeeded: table >> UInt32(8 * (offset - Offset.table)))
    default: 0
    }
  }

  /// True where the write has started a transfer.
  mutating func write(_ offset: UInt64, _ value: UInt8) -> Bool {
    switch offset {
    case Offset.command:
      let wasStarted = isStarted
      command = value & (Command.start | Command.toMemory)
      if isStarted, !wasStarted {
        status.insert(.active)
        return true
      }
      if !isStarted { status.remove(.active) }
    case Offset.status:
      let value = Status(rawValue: value)
      status.subtract(value.intersection([.error, .interrupt]))
      status = status.subtracting(.capable).union(value.intersection(.capable))
    case Offset.table..<Offset.table + 4:
      let shift = UInt32(8 * (offset - Offset.table))
      table = (table & ~(0xff << shift) | UInt32(value) << shift) & ~3
    default: break
    }
    return false
  }

  mutating func noteInterrupt() { status.insert(.interrupt) }

  /// The transfer has ended: still active if the table has more.
  mutating func end(isExhausted: Bool, hasFailed: Bool) {
    if isExhausted || hasFailed || !isStarted { status.remove(.active) }
    if hasFailed { status.insert(.error) }
  }

  /// Reads the table until `count` bytes are described. An entry is an address and a size of up to 64 KiB, for which zero
  /// stands; both are even. Nil where the table is not in memory.
  func regions(_ memory: GuestMemory, count: UInt64) -> Regions? {
    var regions = Regions()
    var entry = UInt64(table)
    // A table does not cross a boundary of 64 KiB.
    let entryCount = (0x10000 - entry & 0xffff) / 8
    for index in 0..<entryCount {
      guard let value = memory.load(GuestPhysicalAddress(entry), as: UInt64.self) else { return nil }
      let size = value >> 32 & 0xfffe
      let isLast = value >> 63 != 0 || index == entryCount - 1
      let before = regions.segments.count
      regions.segments.append(value & 0xffff_fffe, count: size == 0 ? 0x10000 : size, limit: count)
      if regions.segments.count == count {
        regions.isExhausted = isLast && before + (size == 0 ? 0x10000 : size) == count
        return regions
      }
      if isLast { break }
      entry &+= 8
    }
    regions.isExhausted = true
    return regions
  }
}
