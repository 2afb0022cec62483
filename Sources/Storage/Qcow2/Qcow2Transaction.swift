/// A change of an image that touches many tables, and happens as a whole or not at all.
///
/// The new tables, refcounts included, are written beside the old ones, into clusters that the old ones know nothing of.
/// Then one sector, the header, moves the image from the old ones to the new. What only the old ones used is free
/// afterwards. Nobody else uses the image meanwhile.
final class Qcow2Transaction {
  /// A refcount block before and after.
  private final class Page {
    /// Nil: there was none.
    let old: UnsafeMutableRawBufferPointer?
    let new: UnsafeMutableRawBufferPointer
    var isChanged = false
    /// Where the new one is going to be, if it has been decided.
    var offset: UInt64?

    init(old: UnsafeMutableRawBufferPointer?, size: Int) {
      self.old = old
      new = .allocate(byteCount: size, alignment: 16)
      if let old { new.copyMemory(from: UnsafeRawBufferPointer(old)) } else { new.clear() }
    }

    deinit {
      old?.deallocate()
      new.deallocate()
    }
  }

  let file: any ImageFile
  let geometry: Qcow2Geometry
  /// As it is going to be.
  var header: Qcow2Header
  private let coding: RefcountCoding
  /// Of the refcount blocks, as they are.
  private let oldTable: [UInt64]
  private var pages: [Int: Page] = [:]
  /// Pages that are changed and have no new place yet.
  private var unplaced: [Int] = []
  /// No free cluster is below.
  private var searchStart: UInt64

  /// Starts from the image as it is in the file.
  init(_ file: any ImageFile) throws(ImageFailure) {
    self.file = file
    header = try Qcow2Header(of: file)
    geometry = Qcow2Geometry(clusterBits: header.clusterBits, refcountOrder: header.refcountOrder)
    coding = RefcountCoding(order: geometry.refcountOrder)
    oldTable = try file.bytes(
      at: header.refcountTableOffset, count: header.refcountTableClusters << header.clusterBits, what: "refcount table"
    ).bigEndianNumbers.map { $0 & ~511 }
    searchStart = 0
    let table = geometry.cluster(of: header.refcountTableOffset)
    for cluster in table..<table + UInt64(header.refcountTableClusters) { try add(-1, to: cluster) }
  }

  /// Starts from counted references instead of the refcounts in the file, which are thrown away with their blocks and
  /// their table. All that is new goes behind the file's end.
  init(_ file: any ImageFile, references: ReferenceCounts) throws(ImageFailure) {
    self.file = file
    header = try Qcow2Header(of: file)
    geometry = Qcow2Geometry(clusterBits: header.clusterBits, refcountOrder: header.refcountOrder)
    coding = RefcountCoding(order: geometry.refcountOrder)
    oldTable = []
    searchStart = UInt64(references.counts.count)
    for (cluster, count) in references.counts.enumerated() where count > 0 {
      try add(Int64(count), to: UInt64(cluster))
    }
  }

  /// With counted references: the old refcount table is among them, and is not needed any more.
  func forgetRefcountTable(counted references: ReferenceCounts) throws(ImageFailure) {
    let first = geometry.cluster(of: header.refcountTableOffset)
    let clusters = first..<first + UInt64(header.refcountTableClusters)
    guard references.contains(clusters) else { return }
    for cluster in clusters { try add(-1, to: cluster) }
  }

  // MARK: Counts

  private func page(_ index: Int) throws(ImageFailure) -> Page {
    if let page = pages[index] { return page }
    var old: UnsafeMutableRawBufferPointer?
    if index < oldTable.count, oldTable[index] != 0 {
      let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: Int(geometry.clusterSize), alignment: 16)
      let result = Result { () throws(ImageFailure) in try file.read([buffer], at: oldTable[index]) }
      guard case .success(buffer.count) = result else {
        buffer.deallocate()
        _ = try result.get()
        throw ImageFailure(file.name, .truncated(what: "refcount blocks"))
      }
      old = buffer
    }
    let page = Page(old: old, size: Int(geometry.clusterSize))
    pages[index] = page
    return page
  }

  private func split(_ cluster: UInt64) -> (page: Int, index: Int) {
    (Int(cluster >> geometry.blockBits), Int(cluster & (1 << geometry.blockBits - 1)))
  }

  /// A cluster's count as it is going to be.
  func count(_ cluster: UInt64) throws(ImageFailure) -> UInt64 {
    let (number, index) = split(cluster)
    return coding.value(UnsafeRawBufferPointer(try page(number).new), index)
  }

  /// Changes a cluster's count.
  func add(_ change: Int64, to cluster: UInt64) throws(ImageFailure) {
    guard cluster < 1 << (56 - geometry.clusterBits) else {
      throw ImageFailure(file.name, .corrupt("a table leads to offset \(geometry.offset(ofCluster: cluster))"))
    }
    let (number, index) = split(cluster)
    let page = try page(number)
    let old = coding.value(UnsafeRawBufferPointer(page.new), index)
    let (new, overflow) = old.addingReportingOverflow(UInt64(bitPattern: change))
    if change < 0 ? old < change.magnitude : overflow || new > geometry.maximumRefcount {
      guard change < 0 else {
        throw ImageFailure(
          file.name,
          .invalid(
            "its refcounts have \(1 << geometry.refcountOrder) bits, too few for a cluster that is referred to \(new) times; "
              + "convert it to an image with wider ones"))
      }
      throw countsAsFree(cluster)
    }
    coding.store(new, page.new, index)
    guard !page.isChanged else { return }
    page.isChanged = true
    unplaced.append(number)
  }

  /// Adds `change` for every cluster that an L1 table leads to: its L2 tables, and the clusters of the disk.
  func add(_ change: Int64, toAllOf l1: [Qcow2Entry]) throws(ImageFailure) {
    for entry in l1 where entry.offset != 0 {
      for entry in try l2Table(entry) {
        for cluster in entry.clusters(geometry) { try addReferred(change, to: cluster) }
      }
      try addReferred(change, to: geometry.cluster(of: entry.offset))
    }
  }

  /// Changes the count of a cluster that a table leads to, so that it counts as used already. What a broken table leads to
  /// may be anywhere: pages of counts are not made for that.
  private func addReferred(_ change: Int64, to cluster: UInt64) throws(ImageFailure) {
    let (number, _) = split(cluster)
    guard number < oldTable.count, oldTable[number] != 0 || pages[number] != nil, try count(cluster) > 0 else {
      throw countsAsFree(cluster)
    }
    try add(change, to: cluster)
  }

  private func countsAsFree(_ cluster: UInt64) -> ImageFailure {
    let (offset, overflow) = cluster.multipliedReportingOverflow(by: geometry.clusterSize)
    return ImageFailure(
      file.name, .corrupt("the cluster at offset \(overflow ? .max : offset) is in use, but counts as free"))
  }

  /// The entries of an L2 table.
  func l2Table(_ entry: Qcow2Entry) throws(ImageFailure) -> [Qcow2Entry] {
    guard entry.offset & geometry.clusterMask == 0 else {
      throw ImageFailure(file.name, .corrupt("an L1 table leads to offset \(entry.offset), where no L2 table can be"))
    }
    return try file.bytes(at: entry.offset, count: Int(geometry.clusterSize), what: "L2 tables")
      .bigEndianNumbers.map(Qcow2Entry.init(raw:))
  }

  // MARK: Clusters

  /// Writes `bytes` into new clusters, free before and not used otherwise; returns their offset. Nothing is 0.
  func store(_ bytes: [UInt8]) throws(ImageFailure) -> UInt64 {
    guard !bytes.isEmpty else { return 0 }
    let offset = try allocate(geometry.clusters(forBytes: UInt64(bytes.count)))
    try write(bytes, at: offset)
    return offset
  }

  /// Always whole clusters, so that the file ends with one.
  private func write(_ bytes: [UInt8], at offset: UInt64) throws(ImageFailure) {
    let size = Int(geometry.clusters(forBytes: UInt64(bytes.count)) << geometry.clusterBits)
    try file.write(bytes + [UInt8](repeating: 0, count: size - bytes.count), at: offset)
  }

  private func allocate(_ count: UInt64) throws(ImageFailure) -> UInt64 {
    var first = searchStart
    var cluster = first
    while cluster < first + count {
      if try !isFree(cluster) { first = cluster + 1 }
      cluster += 1
    }
    for cluster in first..<first + count { try add(1, to: cluster) }
    if count == 1 { searchStart = first + 1 }
    return geometry.offset(ofCluster: first)
  }

  /// Free before and after.
  private func isFree(_ cluster: UInt64) throws(ImageFailure) -> Bool {
    let (number, index) = split(cluster)
    let page = try page(number)
    if let old = page.old, coding.value(UnsafeRawBufferPointer(old), index) != 0 { return false }
    return coding.value(UnsafeRawBufferPointer(page.new), index) == 0
  }

  // MARK: The active tables

  /// Makes `l1` the active table: what it leads to is marked as this image's own exactly where nobody else refers to it.
  /// All changes of counts must have been made. The old active table's clusters are given up.
  func activate(_ l1: [Qcow2Entry]) throws(ImageFailure) {
    let old = try Qcow2State.readL1(file, offset: header.l1Offset, count: header.l1Count)
    var new = l1
    for (index, entry) in l1.enumerated() {
      guard entry.offset != 0 else {
        new[index] = .unallocated
        continue
      }
      let cluster = geometry.cluster(of: entry.offset)
      if let table = try marked(try l2Table(entry)) {
        new[index] = Qcow2Entry(ownOffset: try store(Array(bigEndian: table.map(\.raw))))
        try add(-1, to: cluster)
      } else {
        new[index] = Qcow2Entry(raw: entry.offset).settingCopied(try count(cluster) == 1)
      }
    }
    if new == old { return }
    let clusters = geometry.clusters(forBytes: UInt64(header.l1Count) * 8)
    for number in 0..<clusters { try add(-1, to: geometry.cluster(of: header.l1Offset) + number) }
    header.l1Offset = try store(Array(bigEndian: new.map(\.raw)))
    header.l1Count = new.count
  }

  /// An L2 table with right marks; nil if it has them.
  private func marked(_ table: [Qcow2Entry]) throws(ImageFailure) -> [Qcow2Entry]? {
    var changed: [Qcow2Entry]?
    for (index, entry) in table.enumerated() where entry.hasCluster || entry.isCopied {
      var isOwn = false
      if entry.hasCluster { isOwn = try count(geometry.cluster(of: entry.offset)) == 1 }
      guard isOwn != entry.isCopied else { continue }
      if changed == nil { changed = table }
      changed?[index] = entry.settingCopied(isOwn)
    }
    return changed
  }

  /// Replaces the snapshot table.
  func storeSnapshots(_ snapshots: [Qcow2Snapshot], replacing old: [Qcow2Snapshot]) throws(ImageFailure) {
    let first = geometry.cluster(of: header.snapshotsOffset)
    for number in 0..<geometry.clusters(forBytes: Qcow2Snapshot.tableSize(old)) { try add(-1, to: first + number) }
    header.snapshotsOffset = try store(snapshots.flatMap(\.encoded))
    header.snapshotCount = snapshots.count
  }

  // MARK: The end

  /// Moves the image to what this transaction has made.
  func commit() throws(ImageFailure) {
    let perCluster = Int(geometry.clusterSize) / 8
    var tableClusters = 0
    var tableOffset: UInt64 = 0
    // Places for tables need counts in tables that need places: until there is nothing left to place.
    while true {
      while let number = unplaced.popLast() { try place(number) }
      let last = max(pages.filter { $0.value.isChanged }.keys.max() ?? 0, (oldTable.lastIndex { $0 != 0 } ?? 0))
      let needed = max(last / perCluster + 1, tableClusters)
      if needed == tableClusters { break }
      if tableClusters > 0 {
        for number in 0..<UInt64(tableClusters) { try add(-1, to: geometry.cluster(of: tableOffset) + number) }
      }
      tableClusters = needed
      guard tableClusters << Int(geometry.clusterBits) <= Qcow2Header.refcountTableLimit else {
        throw ImageFailure(file.name, .invalid("it is full: its refcount table cannot grow"))
      }
      tableOffset = try allocate(UInt64(tableClusters))
    }
    var table = oldTable + [UInt64](repeating: 0, count: max(0, tableClusters * perCluster - oldTable.count))
    for (number, page) in pages {
      guard let offset = page.offset else { continue }
      table[number] = offset
      try file.write([UnsafeRawBufferPointer(page.new)], at: offset)
    }
    try write(Array(bigEndian: table[..<(tableClusters * perCluster)]), at: tableOffset)
    header.refcountTableOffset = tableOffset
    header.refcountTableClusters = tableClusters
    try file.flush()
    try file.write(header.encoded, at: 0)
    try file.flush()
    try discardFreed()
  }

  /// Gives a changed refcount block a new place.
  private func place(_ number: Int) throws(ImageFailure) {
    let offset = try allocate(1)
    try page(number).offset = offset
    if number < oldTable.count, oldTable[number] != 0 { try add(-1, to: geometry.cluster(of: oldTable[number])) }
  }

  /// The host may have back what was in use and is not any more.
  private func discardFreed() throws(ImageFailure) {
    for (number, page) in pages {
      guard page.isChanged, let old = page.old else { continue }
      var start: Int?
      for index in 0...geometry.blockCount {
        let isFreed =
          index < geometry.blockCount && coding.value(UnsafeRawBufferPointer(page.new), index) == 0
          && coding.value(UnsafeRawBufferPointer(old), index) != 0
        if isFreed, start == nil { start = index }
        guard !isFreed, let first = start else { continue }
        let base = UInt64(number) << geometry.blockBits
        try file.discard(
          geometry.offset(ofCluster: base + UInt64(first))..<geometry.offset(ofCluster: base + UInt64(index)))
        start = nil
      }
    }
  }
}
