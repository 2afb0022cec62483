/// How a floppy disk is laid out, which follows from its size: the formats that PCs know.
public struct FloppyFormat: Equatable, Sendable {
  public var cylinders: UInt8
  public var heads: UInt8
  /// Of 512 bytes, on each track.
  public var sectors: UInt8
  /// As a PC's clock memory has it: 1 is 360 KiB (5.25 inches), 2 is 1.2 MiB, 3 is 720 KiB (3.5 inches), 4 is 1.44 MiB,
  /// 5 is 2.88 MiB. A drive reads the formats of the smaller ones of its kind.
  public var drive: UInt8
  /// Data rates at which a drive reads it, as the controller's registers have them: 0 is 500 kbit/s, 1 is 300, 2 is 250, 3
  /// is 1 Mbit/s.
  var rates: Set<UInt8>

  public static let all: [FloppyFormat] = [
    FloppyFormat(40, 1, 8, drive: 1, rates: [1, 2]),
    FloppyFormat(40, 1, 9, drive: 1, rates: [1, 2]),
    FloppyFormat(40, 2, 8, drive: 1, rates: [1, 2]),
    FloppyFormat(40, 2, 9, drive: 1, rates: [1, 2]),
    FloppyFormat(80, 2, 9, drive: 4, rates: [1, 2]),
    FloppyFormat(80, 2, 15, drive: 2, rates: [0]),
    FloppyFormat(80, 2, 18, drive: 4, rates: [0]),
    // What distributors of software have got onto such a disk.
    FloppyFormat(80, 2, 20, drive: 4, rates: [0]),
    FloppyFormat(80, 2, 21, drive: 4, rates: [0]),
    FloppyFormat(82, 2, 21, drive: 4, rates: [0]),
    FloppyFormat(80, 2, 36, drive: 5, rates: [3]),
  ]

  private init(_ cylinders: UInt8, _ heads: UInt8, _ sectors: UInt8, drive: UInt8, rates: Set<UInt8>) {
    self.cylinders = cylinders
    self.heads = heads
    self.sectors = sectors
    self.drive = drive
    self.rates = rates
  }

  /// The format of a disk with `size` bytes; nil: there is none.
  public init?(size: UInt64) {
    guard let format = Self.all.first(where: { $0.size == size }) else { return nil }
    self = format
  }

  /// Bytes of a whole disk.
  public var size: UInt64 { UInt64(cylinders) * UInt64(heads) * UInt64(sectors) * 512 }

  /// Where a sector is on the disk, in bytes; nil: there is no such sector. Sectors count from 1.
  func offset(cylinder: UInt8, head: UInt8, sector: UInt8) -> UInt64? {
    guard cylinder < cylinders, head < heads, (1...sectors).contains(sector) else { return nil }
    let track = UInt64(cylinder) * UInt64(heads) + UInt64(head)
    return (track * UInt64(sectors) + UInt64(sector - 1)) * 512
  }
}
