import Memory

/// What the guest is told about its physical memory: the list that a PC's BIOS gives through INT 15h, function E820h.
///
/// Built once when a machine boots. Ranges are in ascending order and do not overlap; what is in no range belongs to
/// devices or to nobody.
public struct PhysicalMemoryMap: Equatable, Sendable {
  /// Types of the E820h interface (ACPI 6.5, table 15.1).
  public enum Kind: UInt32, Sendable {
    case ram = 1
    case reserved = 2
    /// Tables; the system may use the memory once it has read them.
    case acpiReclaimable = 3
    /// To be kept over a sleep.
    case acpiNonVolatile = 4
  }

  public struct Entry: Equatable, Sendable {
    public var range: Range<UInt64>
    public var kind: Kind

    public init(_ range: Range<UInt64>, _ kind: Kind) {
      self.range = range
      self.kind = kind
    }
  }

  /// End of conventional memory; between here and the display's memory a BIOS keeps its extended data area.
  public static let conventionalEnd: UInt64 = 0x9fc00
  /// Display memory, option ROMs, and the firmware's tables at its end.
  public static let legacyArea: Range<UInt64> = 0xa0000..<0x100000

  public private(set) var entries: [Entry] = []

  /// The map of a PC with this memory, with the firmware's areas below 1 MiB reserved.
  public init(_ memory: GuestMemory) {
    entries = memory.ranges.map { Entry($0, .ram) }
    reserve(Self.conventionalEnd..<Self.legacyArea.lowerBound)
    reserve(Self.legacyArea)
  }

  /// Takes a range out of what is there and adds it with a kind of its own.
  public mutating func reserve(_ range: Range<UInt64>, as kind: Kind = .reserved) {
    guard !range.isEmpty else { return }
    var result = [Entry(range, kind)]
    for entry in entries {
      let before = entry.range.clamped(to: 0..<range.lowerBound)
      let after = entry.range.clamped(to: range.upperBound..<UInt64.max)
      if !before.isEmpty { result.append(Entry(before, entry.kind)) }
      if !after.isEmpty { result.append(Entry(after, entry.kind)) }
    }
    entries = result.sorted { $0.range.lowerBound < $1.range.lowerBound }
  }

  /// RAM from 1 MiB up to the hole for devices, where loaders put what they load; empty in a machine with 1 MiB.
  public var loadable: Range<UInt64> {
    entries.first { $0.kind == .ram && $0.range.lowerBound == Self.legacyArea.upperBound }?.range
      ?? Self.legacyArea.upperBound..<Self.legacyArea.upperBound
  }
}
