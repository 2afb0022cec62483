extension Qcow2Header {
  /// The largest tables that are believed; QEMU's limits.
  static let l1Limit = (32 << 20) / 8
  static let refcountTableLimit = 8 << 20
  static let snapshotLimit = 65536

  /// Reads the header of `file`, and refuses what contradicts itself or cannot be used. Where tables are is checked for
  /// alignment and size here, for contents by those who read them.
  init(of file: any ImageFile) throws(ImageFailure) {
    let bytes = try file.bytes(at: 0, count: Self.shortLength, what: "header")
    guard bytes.bigEndian(at: 0, as: UInt32.self) == 0x5146_49fb else {
      throw ImageFailure(file.name, .invalid("it is no qcow2 image: its first bytes are not 'QFI\\xfb'"))
    }
    version = bytes.bigEndian(at: 4)
    guard version == 2 || version == 3 else {
      throw ImageFailure(
        file.name, .unsupported("it is a qcow image of version \(version); only versions 2 and 3 are supported"))
    }
    backingOffset = bytes.bigEndian(at: 8)
    backingLength = bytes.bigEndian(at: 16)
    clusterBits = Int(bytes.bigEndian(at: 20, as: UInt32.self))
    size = bytes.bigEndian(at: 24)
    encryption = bytes.bigEndian(at: 32)
    l1Count = Int(bytes.bigEndian(at: 36, as: UInt32.self))
    l1Offset = bytes.bigEndian(at: 40)
    refcountTableOffset = bytes.bigEndian(at: 48)
    refcountTableClusters = Int(bytes.bigEndian(at: 56, as: UInt32.self))
    snapshotCount = Int(bytes.bigEndian(at: 60, as: UInt32.self))
    snapshotsOffset = bytes.bigEndian(at: 64)
    length = Self.shortLength
    guard 9...21 ~= clusterBits else {
      throw ImageFailure(
        file.name, .corrupt("its clusters have 2^\(clusterBits) bytes; 2^9 to 2^21 are possible"))
    }
    if version >= 3 { try readVersion3(file) }
    try validate(file)
  }

  private mutating func readVersion3(_ file: any ImageFile) throws(ImageFailure) {
    let bytes = try file.bytes(at: 0, count: Self.fullLength, what: "header")
    incompatibleFeatures = bytes.bigEndian(at: 72)
    compatibleFeatures = bytes.bigEndian(at: 80)
    autoclearFeatures = bytes.bigEndian(at: 88)
    refcountOrder = Int(bytes.bigEndian(at: 96, as: UInt32.self))
    length = Int(bytes.bigEndian(at: 100, as: UInt32.self))
    guard length >= Self.fullLength, length % 8 == 0, length <= 1 << clusterBits else {
      throw ImageFailure(file.name, .corrupt("its header claims to have \(length) bytes"))
    }
    guard refcountOrder <= 6 else {
      throw ImageFailure(file.name, .corrupt("its refcounts have 2^\(refcountOrder) bits; 2^6 are the most possible"))
    }
    try refuseFeatures(file)
    guard incompatibleFeatures & Self.compressionBit != 0 else { return }
    let type = length > Self.fullLength ? try file.bytes(at: 104, count: 1, what: "header")[0] : 0
    guard type != 0 else {
      throw ImageFailure(
        file.name, .corrupt("it claims not to use zlib for compression, but does not say what it uses"))
    }
    guard let known = Compression(rawValue: type) else {
      throw ImageFailure(
        file.name, .unsupported("its compression type \(type) is unknown; zlib and zstd are supported"))
    }
    compression = known
  }

  private func refuseFeatures(_ file: any ImageFile) throws(ImageFailure) {
    let unknown = incompatibleFeatures & ~(Self.dirtyBit | Self.corruptBit | Self.compressionBit)
    guard unknown != 0 else { return }
    let table = (try? Qcow2Extension.read(from: file, header: self))?.first { $0.type == Qcow2Extension.featureNames }
    var names: [String] = []
    for bit in 0..<64 where unknown >> UInt64(bit) & 1 != 0 {
      switch bit {
      case 2: names.append("an external data file")
      case 4: names.append("extended L2 entries (subclusters)")
      default: names.append(table?.featureName(bit: bit) ?? "unknown incompatible feature \(bit)")
      }
    }
    throw ImageFailure(
      file.name,
      .unsupported("it uses \(names.joined(separator: ", ")); 'qemu-img convert -O qcow2' makes an image without"))
  }

  private func validate(_ file: any ImageFile) throws(ImageFailure) {
    func corrupt(_ problem: String) -> ImageFailure { ImageFailure(file.name, .corrupt(problem)) }
    guard encryption == 0 else {
      throw ImageFailure(
        file.name,
        .unsupported("it is encrypted (\(encryption == 1 ? "AES" : encryption == 2 ? "LUKS" : "unknown method"))"))
    }
    let clusterMask = UInt64(1) << UInt64(clusterBits) - 1
    for (name, offset) in [
      ("L1 table", l1Offset), ("refcount table", refcountTableOffset), ("snapshot table", snapshotsOffset),
    ] {
      guard offset & clusterMask == 0, offset < 1 << 62 else {
        throw corrupt("its \(name) cannot be at offset \(offset)")
      }
    }
    guard l1Count <= Self.l1Limit else { throw corrupt("its L1 table has \(l1Count) entries, more than any image") }
    let covered = UInt64(l1Count).multipliedReportingOverflow(by: 1 << UInt64(2 * clusterBits - 3))
    guard covered.overflow || covered.partialValue >= size else {
      throw corrupt("its L1 table is too small for a disk of \(size) bytes")
    }
    guard size < 1 << 62 else { throw corrupt("it claims to be a disk of \(size) bytes") }
    guard refcountTableClusters > 0, refcountTableClusters << clusterBits <= Self.refcountTableLimit else {
      throw corrupt("its refcount table has \(refcountTableClusters) clusters")
    }
    guard snapshotCount <= Self.snapshotLimit else { throw corrupt("it claims to have \(snapshotCount) snapshots") }
    if backingOffset != 0 {
      guard backingLength <= 1023 else { throw corrupt("its backing file's name has \(backingLength) bytes") }
      guard backingOffset <= clusterMask + 1, UInt64(backingLength) <= clusterMask + 1 - backingOffset else {
        throw corrupt("its backing file's name is at offset \(backingOffset), not in the first cluster")
      }
    }
  }
}
