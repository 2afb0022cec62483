/// An image's tables as they are in the file when it is opened.
struct Qcow2State {
  /// Memory for L2 tables and for refcount blocks, in bytes each: 64 MiB of disk for each KiB with usual clusters, so all
  /// of a disk of 2 TiB.
  private static let cacheSize = 32 << 20

  private(set) var header: Qcow2Header
  let geometry: Qcow2Geometry
  let extensions: [Qcow2Extension]
  let snapshots: [Qcow2Snapshot]
  private(set) var l1: [Qcow2Entry]
  let l2: TableCache
  let refcounts: Qcow2Refcounts

  /// Reads them. `checksOverlaps`: refuses an image in which one table lies on another.
  init(_ file: any ImageFile, checksOverlaps: Bool) throws(ImageFailure) {
    let header = try Qcow2Header(of: file)
    let geometry = Qcow2Geometry(clusterBits: header.clusterBits, refcountOrder: header.refcountOrder)
    self.header = header
    self.geometry = geometry
    extensions = try Qcow2Extension.read(from: file, header: header)
    snapshots = try Qcow2Snapshot.readTable(from: file, header: header)
    l1 = try Self.readL1(file, offset: header.l1Offset, count: header.l1Count)
    let table = try file.bytes(
      at: header.refcountTableOffset, count: header.refcountTableClusters << header.clusterBits, what: "refcount table"
    ).bigEndianNumbers.map { $0 & ~511 }
    let cacheLimit = max(16, Self.cacheSize >> header.clusterBits)
    l2 = TableCache(limit: cacheLimit)
    refcounts = Qcow2Refcounts(
      file, header: header, geometry: geometry, table: table, fileSize: try file.size(), cacheLimit: cacheLimit)
    guard checksOverlaps else { return }
    try reserveMetadata(file)
  }

  /// Takes an internal snapshot's disk for the image's.
  mutating func goBack(to idOrName: String, _ file: any ImageFile) throws(ImageFailure) {
    guard file.isReadOnly else { throw ImageFailure(file.name, .invalid("a snapshot can only be read")) }
    let snapshot = snapshots[try Qcow2Snapshot.index(of: idOrName, in: snapshots, file.name)]
    l1 = try Self.readL1(file, offset: snapshot.l1Offset, count: snapshot.l1Count)
    header.size = snapshot.diskSize ?? header.size
  }

  static func readL1(_ file: any ImageFile, offset: UInt64, count: Int) throws(ImageFailure) -> [Qcow2Entry] {
    guard count > 0 else { return [] }
    return try file.bytes(at: offset, count: count * 8, what: "L1 table").bigEndianNumbers.map(Qcow2Entry.init(raw:))
  }

  /// Notes where metadata is. Tables that share a cluster would destroy each other, and those
  /// beyond the file's end are none: refused.
  private func reserveMetadata(_ file: any ImageFile) throws(ImageFailure) {
    let fileClusters = geometry.clusters(forBytes: try file.size())
    func reserve(_ offset: UInt64, bytes: UInt64, _ what: String) throws(ImageFailure) {
      guard bytes > 0 else { return }
      let first = geometry.cluster(of: offset)
      let clusters = first..<first + geometry.clusters(forBytes: bytes)
      guard clusters.upperBound <= fileClusters else {
        throw ImageFailure(file.name, .truncated(what: "tables: \(what) would be at offset \(offset)"))
      }
      for cluster in clusters
      where !refcounts.reserved.insert(cluster).inserted {
        throw ImageFailure(
          file.name,
          .corrupt(
            "\(what) at offset \(offset) overlaps other metadata; 'ringside image check --repair' tries to mend it"))
      }
    }
    try reserve(0, bytes: 1, "the header")
    try reserve(header.l1Offset, bytes: UInt64(header.l1Count) * 8, "the L1 table")
    try reserve(
      header.refcountTableOffset, bytes: UInt64(header.refcountTableClusters) << geometry.clusterBits,
      "the refcount table")
    for offset in refcounts.table where offset != 0 { try reserve(offset, bytes: 1, "a refcount block") }
    try reserve(header.snapshotsOffset, bytes: Qcow2Snapshot.tableSize(snapshots), "the snapshot table")
    for snapshot in snapshots {
      try reserve(snapshot.l1Offset, bytes: UInt64(snapshot.l1Count) * 8, "a snapshot's L1 table")
    }
    for entry in l1 where entry.offset != 0 { try reserve(entry.offset, bytes: 1, "an L2 table") }
  }
}
