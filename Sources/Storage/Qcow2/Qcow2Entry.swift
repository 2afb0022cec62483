/// An entry of an L1 or L2 table: where a table or a cluster is (docs/interop/qcow2.txt, "Cluster mapping").
struct Qcow2Entry: Equatable {
  var raw: UInt64

  static let copiedFlag: UInt64 = 1 << 63
  static let compressedFlag: UInt64 = 1 << 62
  static let zeroFlag: UInt64 = 1
  static let offsetMask: UInt64 = 0x00ff_ffff_ffff_fe00

  static let unallocated = Qcow2Entry(raw: 0)
  static let zero = Qcow2Entry(raw: zeroFlag)

  init(raw: UInt64) { self.raw = raw }

  /// A table or cluster that nobody else refers to.
  init(ownOffset offset: UInt64) { raw = offset | Self.copiedFlag }

  var offset: UInt64 { raw & Self.offsetMask }
  /// Nobody else refers to it: it may be written in place.
  var isCopied: Bool { raw & Self.copiedFlag != 0 }
  var isCompressed: Bool { raw & Self.compressedFlag != 0 }
  /// Reads as zeroes, whether or not it has a cluster.
  var isZero: Bool { !isCompressed && raw & Self.zeroFlag != 0 }
  /// Reads from the backing file.
  var isUnallocated: Bool { !isCompressed && offset == 0 && !isZero }
  /// A whole cluster belongs to it.
  var hasCluster: Bool { !isCompressed && offset != 0 }
  /// Can be written where it is.
  var isWritableInPlace: Bool { hasCluster && isCopied && !isZero }

  func settingCopied(_ isCopied: Bool) -> Qcow2Entry {
    Qcow2Entry(raw: isCopied ? raw | Self.copiedFlag : raw & ~Self.copiedFlag)
  }

  /// Where the data of a compressed cluster are: `offset`, at any byte, and as many bytes up to the end of its last
  /// sector.
  func compressedRange(_ geometry: Qcow2Geometry) -> Range<UInt64> {
    let offsetBits = 62 - (geometry.clusterBits - 8)
    let offset = raw & (1 << offsetBits - 1)
    let sectors = (raw & ~(Self.copiedFlag | Self.compressedFlag)) >> offsetBits &+ 1
    return offset..<(offset & ~511) &+ sectors &* 512
  }

  /// The entry of data that were compressed to `range`; nil where it cannot be expressed.
  init?(compressed range: Range<UInt64>, _ geometry: Qcow2Geometry) {
    let offsetBits = 62 - (geometry.clusterBits - 8)
    guard range.lowerBound < 1 << min(offsetBits, 56) else { return nil }
    let sectors = (range.upperBound - 1) >> 9 - range.lowerBound >> 9
    raw = Self.compressedFlag | sectors << offsetBits | range.lowerBound
  }

  /// The host clusters that this entry refers to; empty for none.
  func clusters(_ geometry: Qcow2Geometry) -> Range<UInt64> {
    if isCompressed {
      let range = compressedRange(geometry)
      return geometry.cluster(of: range.lowerBound)..<geometry.cluster(of: range.upperBound - 1) + 1
    }
    let first = geometry.cluster(of: offset)
    return first..<first + (offset == 0 ? 0 : 1)
  }
}
