/// Cylinders, heads and sectors that a disk claims to have (ATA-5, annex B): what firmware and systems of old count in.
struct ATAGeometry: Equatable {
  let cylinders: UInt16
  let heads: UInt16 = 16
  let sectorsPerTrack: UInt16 = 63

  /// A disk that is too large for it shows as much as fits, which tells hosts to use block addresses.
  init(sectorCount: UInt64) {
    cylinders = Self.cylinders(sectorCount, heads: 16, sectorsPerTrack: 63, limit: 16383)
  }

  /// Cylinders of a disk in another geometry.
  static func cylinders(_ sectorCount: UInt64, heads: UInt16, sectorsPerTrack: UInt16, limit: UInt64 = 65535) -> UInt16
  {
    UInt16(min(sectorCount / (UInt64(heads) * UInt64(sectorsPerTrack)), limit))
  }
}
