/// How a new qcow2 image is to be.
public struct Qcow2Creation: Sendable {
  /// Of the disk, in bytes, a multiple of 512.
  public var size: UInt64
  /// In bytes: a power of two from 512 to 2 MiB.
  public var clusterSize: UInt64 = 65536
  /// 2 or 3.
  public var version = 3
  /// 1, 2, 4, 8, 16, 32 or 64.
  public var refcountBits = 16
  public var usesLazyRefcounts = false
  public var compression = Compression.zlib
  /// What the image's path leads from, as it is to stand in the image, and its format.
  public var backing: (path: String, format: ImageFormat)?

  public init(size: UInt64) { self.size = size }

  /// What cannot be done; nil: it can.
  public var problem: String? {
    if size % 512 != 0 { return "a disk of \(size) bytes is not possible: give a multiple of 512" }
    if clusterSize.nonzeroBitCount != 1 || !(512...2 << 20 ~= clusterSize) {
      return "clusters of \(clusterSize) bytes are not possible: give a power of two from 512 to 2M"
    }
    if refcountBits.nonzeroBitCount != 1 || !(1...64 ~= refcountBits) {
      return "refcounts of \(refcountBits) bits are not possible: give 1, 2, 4, 8, 16, 32 or 64"
    }
    if version < 3 {
      if refcountBits != 16 { return "version 2 has refcounts of 16 bits only" }
      if usesLazyRefcounts { return "version 2 has no lazy refcounts" }
      if compression != .zlib { return "version 2 compresses with zlib only" }
    }
    if size >= 1 << 62 || geometry.l1Count(forSize: size) > Qcow2Header.l1Limit {
      return "a disk of \(size) bytes is too large for clusters of \(clusterSize) bytes"
    }
    if let backing, !(1...1023 ~= backing.path.utf8.count) { return "a backing file's name has 1 to 1023 bytes" }
    return nil
  }

  private var geometry: Qcow2Geometry {
    Qcow2Geometry(clusterBits: clusterSize.trailingZeroBitCount, refcountOrder: refcountBits.trailingZeroBitCount)
  }

  /// Writes an empty image into `file`, which is empty.
  public func write(to file: any ImageFile) throws(ImageFailure) {
    if let problem { throw ImageFailure(file.name, .invalid(problem)) }
    let geometry = geometry
    var header = Qcow2Header()
    header.version = UInt32(version)
    header.clusterBits = Int(geometry.clusterBits)
    header.refcountOrder = Int(geometry.refcountOrder)
    header.size = size
    header.length = version < 3 ? Qcow2Header.shortLength : 112
    header.l1Count = geometry.l1Count(forSize: size)
    header.compression = compression
    if compression != .zlib { header.incompatibleFeatures = Qcow2Header.compressionBit }
    if usesLazyRefcounts { header.compatibleFeatures = Qcow2Header.lazyRefcountsBit }
    // Header, refcount table, L1 table, and as many refcount blocks as those and themselves take.
    let l1Clusters = max(1, geometry.clusters(forBytes: UInt64(header.l1Count) * 8))
    var blocks: UInt64 = 1
    var tableClusters: UInt64 = 1
    while true {
      let total = 1 + tableClusters + blocks + l1Clusters
      let needed = (total + UInt64(geometry.blockCount) - 1) >> geometry.blockBits
      let neededTable = geometry.clusters(forBytes: needed * 8)
      if needed <= blocks, neededTable <= tableClusters { break }
      (blocks, tableClusters) = (max(needed, blocks), max(neededTable, tableClusters))
    }
    let total = 1 + tableClusters + blocks + l1Clusters
    header.refcountTableOffset = clusterSize
    header.refcountTableClusters = Int(tableClusters)
    let firstBlock = clusterSize * (1 + tableClusters)
    header.l1Offset = firstBlock + clusterSize * blocks
    try file.resize(to: clusterSize * total)
    try file.write(Array(bigEndian: (0..<blocks).map { firstBlock + $0 * clusterSize }), at: header.refcountTableOffset)
    let coding = RefcountCoding(order: geometry.refcountOrder)
    for block in 0..<blocks {
      var bytes = [UInt8](repeating: 0, count: Int(clusterSize))
      let used = min(UInt64(geometry.blockCount), total - block << geometry.blockBits)
      bytes.withUnsafeMutableBytes { bytes in
        for index in 0..<Int(used) { coding.store(1, bytes, index) }
      }
      try file.write(bytes, at: firstBlock + block * clusterSize)
    }
    try Self.writeHeader(header, extensions: [], backing: backing, to: file)
    try file.flush()
  }

  /// Writes the first cluster: the header, its extensions, and the backing file's name. What stands in one sector with
  /// the header is written last, and at once.
  static func writeHeader(
    _ header: Qcow2Header, extensions: [Qcow2Extension], backing: (path: String, format: ImageFormat)?,
    to file: any ImageFile
  ) throws(ImageFailure) {
    var header = header
    var extensions = extensions.filter { $0.type != Qcow2Extension.backingFormat }
    if let backing {
      extensions.insert(
        Qcow2Extension(type: Qcow2Extension.backingFormat, data: Array(backing.format.rawValue.utf8)), at: 0)
    }
    let name = Array((backing?.path ?? "").utf8)
    let size = 1 << header.clusterBits
    if header.version >= 3, !extensions.contains(where: { $0.type == Qcow2Extension.featureNames }) {
      let names = Qcow2Extension.knownFeatures
      // Nice to have, and left out where clusters are small.
      let taken = header.length + extensions.reduce(8) { $0 + $1.encoded.count } + name.count
      if taken + names.encoded.count <= size { extensions.append(names) }
    }
    let area = extensions.flatMap(\.encoded) + [UInt8](repeating: 0, count: 8)
    let nameOffset = header.length + area.count
    guard nameOffset + name.count <= size else {
      throw ImageFailure(file.name, .invalid("the backing file's name does not fit in a cluster of \(size) bytes"))
    }
    header.backingOffset = name.isEmpty ? 0 : UInt64(nameOffset)
    header.backingLength = UInt32(name.count)
    var bytes = header.encoded
    bytes += [UInt8](repeating: 0, count: header.length - bytes.count)
    bytes += area + name
    bytes += [UInt8](repeating: 0, count: size - bytes.count)
    let sector = Qcow2Header.sectorLength
    if size > sector {
      try file.write(Array(bytes[sector...]), at: UInt64(sector))
      try file.flush()
    }
    try file.write(Array(bytes[..<sector]), at: 0)
  }
}
