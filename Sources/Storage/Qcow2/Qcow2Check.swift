/// Looks at all tables of an image, and puts them right.
///
/// References are counted by walking from the header through every table, and compared with the refcounts. Fewer
/// refcounts than references are a corruption: the cluster might be given away while it is used. More are a leak.
/// Repair throws the refcounts away and makes new ones from what was counted, in a transaction.
public struct Qcow2Check {
  public enum Repair: Sendable {
    /// Refcounts that are too high; nothing is done to an image that has more wrong with it.
    case leaks
    /// All; entries that lead nowhere become zeroes.
    case all
  }

  let file: any ImageFile
  let header: Qcow2Header
  let geometry: Qcow2Geometry
  /// Clusters of the file; the last one need not be whole.
  private let fileClusters: UInt64
  private(set) var report = ImageCheckReport()
  private var references: ReferenceCounts
  /// Clusters of the image's own tables, of which there is one place in the file each: nothing else may lead there, however
  /// well it is counted.
  private var ownTables: Set<UInt64> = [0]
  /// L2 tables with entries that lead nowhere: as they should be, by L1 table and index.
  private var mended: [(table: Int, index: Int, entries: [Qcow2Entry])] = []
  /// The active L1 table, then the snapshots'; entries that lead nowhere are gone.
  private var l1Tables: [[Qcow2Entry]] = []
  private var snapshots: [Qcow2Snapshot] = []

  /// More clusters of a file than are counted: 128 GiB with the smallest, 16 TiB with usual ones. The counts take 8 bytes
  /// each, and a file of holes claims any number of clusters for nothing.
  private static let clusterLimit: UInt64 = 1 << 28
  /// Entries of all bitmap tables together that are believed.
  private static let bitmapLimit: UInt64 = 64 << 20

  /// Gets ready to look at the image in `file`, which nobody else may be writing.
  public init(_ file: any ImageFile) throws(ImageFailure) {
    self.file = file
    header = try Qcow2Header(of: file)
    geometry = Qcow2Geometry(clusterBits: header.clusterBits, refcountOrder: header.refcountOrder)
    fileClusters = geometry.clusters(forBytes: try file.size())
    guard fileClusters <= Self.clusterLimit else {
      throw ImageFailure(
        file.name,
        .unsupported("its file has \(fileClusters) clusters, and at most \(Self.clusterLimit) can be counted"))
    }
    references = ReferenceCounts(clusters: fileClusters)
  }

  /// Looks at everything.
  public func examine() throws(ImageFailure) -> ImageCheckReport {
    var copy = self
    try copy.walk()
    try copy.compare()
    return copy.report
  }

  /// Puts right what is wrong, and returns what was. What one repair has uncovered is for another, up to three.
  @discardableResult
  public func repair(_ extent: Repair) throws(ImageFailure) -> ImageCheckReport {
    let report = try repairOnce(extent)
    var last = report
    for _ in 1..<3 {
      // Nothing was wrong, or nothing was done about it.
      if last.isSound && last.leaks == 0 || extent == .leaks && !last.isSound { break }
      last = try Qcow2Check(file).repairOnce(extent)
    }
    return report
  }

  private func repairOnce(_ extent: Repair) throws(ImageFailure) -> ImageCheckReport {
    var copy = self
    try copy.walk()
    try copy.compare()
    switch extent {
    case .leaks where copy.report.isSound && copy.report.leaks > 0: try copy.rebuild()
    case .all where !copy.report.isSound || copy.report.leaks > 0: try copy.rebuild()
    default: break
    }
    return copy.report
  }

  // MARK: Counting references

  private mutating func walk() throws(ImageFailure) {
    report.isMarkedDirty = header.isDirty
    report.isMarkedCorrupt = header.isCorrupt
    report.totalClusters = geometry.clusters(forBytes: header.size)
    references.add(0..<min(1, fileClusters))
    count(
      header.refcountTableOffset, bytes: UInt64(header.refcountTableClusters) << geometry.clusterBits, "refcount table")
    count(header.l1Offset, bytes: UInt64(header.l1Count) * 8, "L1 table")
    snapshots = try Qcow2Snapshot.readTable(from: file, header: header)
    count(header.snapshotsOffset, bytes: Qcow2Snapshot.tableSize(snapshots), "snapshot table")
    l1Tables = [try Qcow2State.readL1(file, offset: header.l1Offset, count: header.l1Count)]
    for snapshot in snapshots {
      count(snapshot.l1Offset, bytes: UInt64(snapshot.l1Count) * 8, "L1 table of snapshot '\(snapshot.name)'")
      l1Tables.append(try Qcow2State.readL1(file, offset: snapshot.l1Offset, count: snapshot.l1Count))
    }
    for table in l1Tables.indices { try walkL1(table) }
    try walkBitmaps()
  }

  /// Counts a table of the image's own, or something else that lies in one piece.
  private mutating func count(_ offset: UInt64, bytes: UInt64, _ what: String, isOwn: Bool = true) {
    // Where nothing is matters to nobody.
    guard bytes > 0 else { return }
    let first = geometry.cluster(of: offset)
    let clusters = first..<first + geometry.clusters(forBytes: bytes)
    if references.contains(clusters) {
      references.add(clusters)
      if isOwn { ownTables.formUnion(clusters) }
    } else {
      report.addCorruption("the \(what) at offset \(offset) is beyond the file's end")
    }
  }

  private mutating func walkL1(_ number: Int) throws(ImageFailure) {
    for (index, entry) in l1Tables[number].enumerated() where entry.offset != 0 {
      let cluster = geometry.cluster(of: entry.offset)
      guard entry.offset & geometry.clusterMask == 0, cluster < fileClusters, !ownTables.contains(cluster) else {
        report.addCorruption("L1 entry \(index) leads to offset \(entry.offset), where no L2 table can be")
        l1Tables[number][index] = .unallocated
        continue
      }
      references.add(cluster..<cluster + 1)
      let size = Int(geometry.clusterSize)
      var bytes = [UInt8](repeating: 0, count: size)
      let result = bytes.withUnsafeMutableBytes { bytes in
        Result { () throws(ImageFailure) in try file.read([bytes], at: entry.offset) }
      }
      if try result.get() < size { report.addCorruption("the L2 table at offset \(entry.offset) is cut off") }
      walkL2(bytes.bigEndianNumbers.map(Qcow2Entry.init(raw:)), number, index)
    }
  }

  private mutating func walkL2(_ entries: [Qcow2Entry], _ table: Int, _ index: Int) {
    var right = entries
    var previousEnd: UInt64 = 0
    for (position, entry) in entries.enumerated() {
      if let problem = problem(of: entry) {
        report.addCorruption("L2 entry \(position) below L1 entry \(index) \(problem)")
        right[position] = header.version >= 3 ? .zero : .unallocated
        continue
      }
      references.add(entry.clusters(geometry))
      guard table == 0, entry.isCompressed || entry.hasCluster else { continue }
      report.allocatedClusters += 1
      if entry.isCompressed {
        report.compressedClusters += 1
        report.fragmentedClusters += 1
      } else {
        if previousEnd != 0, entry.offset != previousEnd { report.fragmentedClusters += 1 }
        previousEnd = entry.offset + geometry.clusterSize
      }
    }
    if right != entries { mended.append((table, index, right)) }
  }

  /// What is impossible about an L2 entry.
  private func problem(of entry: Qcow2Entry) -> String? {
    if entry.isCompressed {
      guard references.contains(entry.clusters(geometry)) else { return "leads beyond the file's end" }
      return entry.isCopied ? "is compressed, and marked as if it could be written" : nil
    }
    if entry.isZero, header.version < 3 { return "is of zeroes, which version 2 does not know" }
    if entry.offset & geometry.clusterMask != 0 { return "leads to offset \(entry.offset), where no cluster can be" }
    let clusters = entry.clusters(geometry)
    guard references.contains(clusters) else { return "leads to offset \(entry.offset), beyond the file's end" }
    return clusters.contains(where: ownTables.contains) ? "leads to offset \(entry.offset), where a table is" : nil
  }

  /// Bitmaps that are said to be right have clusters, too (docs/interop/qcow2.txt, "Bitmaps").
  private mutating func walkBitmaps() throws(ImageFailure) {
    let extensions = try Qcow2Extension.read(from: file, header: header)
    guard header.hasBitmaps, let bitmaps = extensions.first(where: { $0.type == Qcow2Extension.bitmaps }),
      bitmaps.data.count >= 24
    else { return }
    let size: UInt64 = bitmaps.data.bigEndian(at: 8)
    let offset: UInt64 = bitmaps.data.bigEndian(at: 16)
    guard size <= 64 << 20 else { return report.addCorruption("the bitmap directory claims to have \(size) bytes") }
    count(offset, bytes: size, "bitmap directory", isOwn: false)
    let directory = try file.bytes(at: offset, count: Int(size), what: "bitmap directory")
    var position = 0
    var total: UInt64 = 0
    while directory.count - position >= 24 {
      let table: UInt64 = directory.bigEndian(at: position)
      let entries = UInt64(directory.bigEndian(at: position + 8, as: UInt32.self))
      let nameSize = Int(directory.bigEndian(at: position + 18, as: UInt16.self))
      let extraSize = Int(directory.bigEndian(at: position + 20, as: UInt32.self))
      total += entries
      guard total <= Self.bitmapLimit else {
        return report.addCorruption("its bitmap tables claim to have \(total) entries")
      }
      count(table, bytes: entries * 8, "bitmap table", isOwn: false)
      for entry in try file.bytes(at: table, count: Int(entries) * 8, what: "bitmap table").bigEndianNumbers {
        let cluster = Qcow2Entry(raw: entry).offset
        if cluster != 0 { count(cluster, bytes: 1, "bitmap", isOwn: false) }
      }
      position += (24 + nameSize + extraSize + 7) & ~7
    }
  }

  // MARK: Comparing

  private mutating func compare() throws(ImageFailure) {
    let coding = RefcountCoding(order: geometry.refcountOrder)
    // Like references, counts are cut off at what 32 bits hold.
    var stored = [UInt32](repeating: 0, count: Int(fileClusters))
    let tableBytes = header.refcountTableClusters << header.clusterBits
    let table = (try? file.bytes(at: header.refcountTableOffset, count: tableBytes, what: ""))?.bigEndianNumbers ?? []
    if table.isEmpty { report.addCorruption("the refcount table cannot be read") }
    // Two passes: blocks have references themselves.
    var blocks: [(first: UInt64, offset: UInt64)] = []
    for (index, entry) in table.enumerated() where entry & ~511 != 0 {
      let offset = entry & ~511
      let cluster = geometry.cluster(of: offset)
      guard offset & geometry.clusterMask == 0, cluster < fileClusters else {
        report.addCorruption("refcount block \(index) cannot be at offset \(offset)")
        continue
      }
      references.add(cluster..<cluster + 1)
      if references[cluster] > 1 {
        report.addCorruption("the refcount block at offset \(offset) is used for something else, too")
      }
      blocks.append((UInt64(index) << geometry.blockBits, offset))
    }
    var block = [UInt8](repeating: 0, count: Int(geometry.clusterSize))
    for (first, offset) in blocks {
      let result = block.withUnsafeMutableBytes { block in
        Result { () throws(ImageFailure) in try file.read([block], at: offset) }
      }
      _ = try result.get()
      block.withUnsafeBytes { block in
        for index in 0..<geometry.blockCount {
          let count = coding.value(block, index)
          let cluster = first + UInt64(index)
          if cluster < fileClusters {
            stored[Int(cluster)] = UInt32(clamping: count)
          } else if count > 0 {
            report.leaks += 1
          }
        }
      }
    }
    compareCounts(stored)
    try compareMarks(stored)
  }

  private mutating func compareCounts(_ stored: [UInt32]) {
    for cluster in 0..<fileClusters {
      let (is_, should) = (UInt64(stored[Int(cluster)]), references[cluster])
      if should > 0 { report.imageEnd = geometry.offset(ofCluster: cluster + 1) }
      if is_ < should {
        report.addCorruption(
          "the cluster at offset \(geometry.offset(ofCluster: cluster)) is referred to \(should) times, but counted \(is_) times"
        )
      } else if is_ > should {
        report.leaks += 1
      }
    }
  }

  /// Entries of the active tables are marked as the image's own exactly where the count is 1.
  private mutating func compareMarks(_ stored: [UInt32]) throws(ImageFailure) {
    func isOwn(_ entry: Qcow2Entry) -> Bool {
      let cluster = geometry.cluster(of: entry.offset)
      return cluster < fileClusters && stored[Int(cluster)] == 1
    }
    for (index, entry) in l1Tables[0].enumerated() where entry.offset != 0 {
      if isOwn(entry) != entry.isCopied {
        report.addCorruption("L1 entry \(index) is marked wrongly as its image's own or not")
      }
      var bytes = [UInt8](repeating: 0, count: Int(geometry.clusterSize))
      let result = bytes.withUnsafeMutableBytes { bytes in
        Result { () throws(ImageFailure) in try file.read([bytes], at: entry.offset) }
      }
      _ = try result.get()
      for (position, raw) in bytes.bigEndianNumbers.enumerated() {
        let entry = Qcow2Entry(raw: raw)
        guard entry.hasCluster, problem(of: entry) == nil, isOwn(entry) != entry.isCopied else { continue }
        report.addCorruption("L2 entry \(position) below L1 entry \(index) is marked wrongly as its image's own or not")
      }
    }
  }

  // MARK: Repair

  /// Makes new refcounts from the references, without those of the old blocks and table.
  private mutating func rebuild() throws(ImageFailure) {
    var fresh = self
    fresh.references = ReferenceCounts(clusters: fileClusters)
    fresh.mended = []
    try fresh.walk()
    let transaction = try Qcow2Transaction(file, references: fresh.references)
    try transaction.forgetRefcountTable(counted: fresh.references)
    for (table, index, entries) in fresh.mended {
      let old = fresh.l1Tables[table][index]
      fresh.l1Tables[table][index] = Qcow2Entry(
        raw: try transaction.store(Array(bigEndian: entries.map(\.raw))))
      try transaction.add(-1, to: geometry.cluster(of: old.offset))
    }
    var snapshots = fresh.snapshots
    for number in snapshots.indices {
      let old = try Qcow2State.readL1(file, offset: snapshots[number].l1Offset, count: snapshots[number].l1Count)
      guard old != fresh.l1Tables[number + 1] else { continue }
      for cluster in 0..<geometry.clusters(forBytes: UInt64(old.count) * 8) {
        try transaction.add(-1, to: geometry.cluster(of: snapshots[number].l1Offset) + cluster)
      }
      snapshots[number].l1Offset = try transaction.store(Array(bigEndian: fresh.l1Tables[number + 1].map(\.raw)))
    }
    if snapshots != fresh.snapshots { try transaction.storeSnapshots(snapshots, replacing: fresh.snapshots) }
    transaction.header.incompatibleFeatures &= ~(Qcow2Header.dirtyBit | Qcow2Header.corruptBit)
    try transaction.activate(fresh.l1Tables[0])
    try transaction.commit()
  }
}
