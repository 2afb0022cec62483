/// The header of a qcow2 image (docs/interop/qcow2.txt, "Header").
///
/// All that says where an image's tables are stands in the first 104 bytes, so in one sector: writing it moves an image
/// from one set of tables to another at once, or not at all.
struct Qcow2Header: Equatable {
  /// Bits 0 and 1 and 3 of the incompatible features; others are refused.
  static let dirtyBit: UInt64 = 1
  static let corruptBit: UInt64 = 2
  static let compressionBit: UInt64 = 8
  /// Bit 0 of the compatible features.
  static let lazyRefcountsBit: UInt64 = 1
  /// Bit 0 of the autoclear features.
  static let bitmapsBit: UInt64 = 1

  var version: UInt32 = 3
  /// Where the backing file's name is; 0: there is none.
  var backingOffset: UInt64 = 0
  var backingLength: UInt32 = 0
  var clusterBits: Int = 16
  /// Of the disk, in bytes.
  var size: UInt64 = 0
  var encryption: UInt32 = 0
  /// Entries of the active L1 table.
  var l1Count: Int = 0
  var l1Offset: UInt64 = 0
  var refcountTableOffset: UInt64 = 0
  var refcountTableClusters: Int = 0
  var snapshotCount: Int = 0
  var snapshotsOffset: UInt64 = 0
  var incompatibleFeatures: UInt64 = 0
  var compatibleFeatures: UInt64 = 0
  var autoclearFeatures: UInt64 = 0
  /// A refcount has `1 << refcountOrder` bits.
  var refcountOrder: Int = 4
  /// Of the header itself; extensions follow it.
  var length: Int = 112
  var compression = Compression.zlib

  /// What every version has, and what version 3 has.
  static let shortLength = 72
  static let fullLength = 104
  /// As many bytes as `encoded` has at most, and no more than the smallest cluster.
  static let sectorLength = 512

  var isDirty: Bool { incompatibleFeatures & Self.dirtyBit != 0 }
  var isCorrupt: Bool { incompatibleFeatures & Self.corruptBit != 0 }
  var usesLazyRefcounts: Bool { compatibleFeatures & Self.lazyRefcountsBit != 0 }
  var hasBitmaps: Bool { autoclearFeatures & Self.bitmapsBit != 0 }

  /// The header's bytes, `length` of them at most: what is in the file behind those that this knows stays.
  var encoded: [UInt8] {
    var bytes = [UInt8](repeating: 0, count: version < 3 ? Self.shortLength : min(length, 112))
    bytes.storeBigEndian(0x5146_49fb as UInt32, at: 0)
    bytes.storeBigEndian(version, at: 4)
    bytes.storeBigEndian(backingOffset, at: 8)
    bytes.storeBigEndian(backingLength, at: 16)
    bytes.storeBigEndian(UInt32(clusterBits), at: 20)
    bytes.storeBigEndian(size, at: 24)
    bytes.storeBigEndian(encryption, at: 32)
    bytes.storeBigEndian(UInt32(l1Count), at: 36)
    bytes.storeBigEndian(l1Offset, at: 40)
    bytes.storeBigEndian(refcountTableOffset, at: 48)
    bytes.storeBigEndian(UInt32(refcountTableClusters), at: 56)
    bytes.storeBigEndian(UInt32(snapshotCount), at: 60)
    bytes.storeBigEndian(snapshotsOffset, at: 64)
    guard version >= 3 else { return bytes }
    bytes.storeBigEndian(incompatibleFeatures, at: 72)
    bytes.storeBigEndian(compatibleFeatures, at: 80)
    bytes.storeBigEndian(autoclearFeatures, at: 88)
    bytes.storeBigEndian(UInt32(refcountOrder), at: 96)
    bytes.storeBigEndian(UInt32(length), at: 100)
    if length > Self.fullLength { bytes[Self.fullLength] = compression.rawValue }
    return bytes
  }
}
