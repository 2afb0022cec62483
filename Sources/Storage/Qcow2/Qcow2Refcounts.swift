/// The reference counts of an image's clusters, and who gets a free one (docs/interop/qcow2.txt, "Host cluster
/// management").
///
/// Changes stay in memory until the image's checkpoint writes them. Guarded by the image's metadata lock.
final class Qcow2Refcounts {
  private let file: any ImageFile
  let geometry: Qcow2Geometry
  private let coding: RefcountCoding
  /// Offsets of the refcount blocks; 0: a block of zeroes that is not in the file.
  private(set) var table: [UInt64]
  private(set) var tableOffset: UInt64
  private(set) var tableClusters: Int
  /// Entries of the table that the file does not have yet, and whether the whole table is elsewhere now.
  private(set) var dirtyEntries = 0..<0
  private(set) var isTableMoved = false
  private var blocks: TableCache
  /// Every cluster below is in use.
  private var firstFree: UInt64 = 0
  /// Clusters from here on have never been used: in the file they are a hole, or beyond the end.
  private(set) var freshFrom: UInt64
  /// Clusters that hold metadata, whatever their refcounts claim: no guest data may go there.
  var reserved: Set<UInt64> = []
  /// References that are gone in memory, but not in the file yet: one decrement each.
  var pendingReleases: [UInt64] = []

  /// Cluster offsets have 56 bits in the tables.
  private var clusterLimit: UInt64 { 1 << (56 - geometry.clusterBits) }

  init(
    _ file: any ImageFile, header: Qcow2Header, geometry: Qcow2Geometry, table: [UInt64], fileSize: UInt64,
    cacheLimit: Int
  ) {
    self.file = file
    self.geometry = geometry
    coding = RefcountCoding(order: geometry.refcountOrder)
    self.table = table
    tableOffset = header.refcountTableOffset
    tableClusters = header.refcountTableClusters
    blocks = TableCache(limit: cacheLimit)
    freshFrom = geometry.clusters(forBytes: fileSize)
  }

  var hasChanges: Bool { isTableMoved || !dirtyEntries.isEmpty || !blocks.dirty.isEmpty }
  var isCrowded: Bool { blocks.isCrowded || pendingReleases.count > 1 << 20 }

  // MARK: Single counts

  func count(_ cluster: UInt64) throws(ImageFailure) -> UInt64 {
    guard let block = try block(of: cluster) else { return 0 }
    return coding.value(UnsafeRawBufferPointer(block.bytes), index(cluster))
  }

  private func index(_ cluster: UInt64) -> Int { Int(cluster & (1 << geometry.blockBits - 1)) }
  private func blockIndex(_ cluster: UInt64) -> UInt64 { cluster >> geometry.blockBits }

  /// The block that holds a cluster's count; nil where there is none.
  private func block(of cluster: UInt64) throws(ImageFailure) -> MetadataTable? {
    let index = blockIndex(cluster)
    guard index < UInt64(table.count) else { return nil }
    let offset = table[Int(index)]
    if offset == 0 { return nil }
    if let known = blocks.find(offset) { return known }
    guard offset & geometry.clusterMask == 0 else {
      throw ImageFailure(file.name, .corrupt("a refcount block cannot be at offset \(offset)"))
    }
    let block = MetadataTable(offset: offset, size: Int(geometry.clusterSize), isNew: false)
    guard try file.read([block.bytes], at: offset) == block.bytes.count else {
      throw ImageFailure(file.name, .truncated(what: "refcount blocks"))
    }
    blocks.insert(block)
    return block
  }

  /// Where the last cluster below `limit` that counts as used ends; 0: there is none.
  func endOfUse(below limit: UInt64) throws(ImageFailure) -> UInt64 {
    for number in table.indices.reversed() where table[number] != 0 {
      let first = UInt64(number) << geometry.blockBits
      guard first < limit, let block = try block(of: first) else { continue }
      let bytes = UnsafeRawBufferPointer(block.bytes)
      let end = Int(min(limit - first, UInt64(geometry.blockCount)))
      if let last = (0..<end).last(where: { coding.value(bytes, $0) != 0 }) { return first + UInt64(last) + 1 }
    }
    return 0
  }

  /// The block must be there.
  private func set(_ cluster: UInt64, to count: UInt64) throws(ImageFailure) {
    guard let block = try block(of: cluster) else { return }
    coding.store(count, block.bytes, index(cluster))
    blocks.change(block, coding.bytes(index(cluster)))
  }

  /// One more reference to a cluster that is in use; false where the count would not fit its width.
  func retain(_ cluster: UInt64) throws(ImageFailure) -> Bool {
    let count = try count(cluster)
    guard count < geometry.maximumRefcount else { return false }
    try set(cluster, to: count + 1)
    return true
  }

  /// One reference less.
  func release(_ cluster: UInt64) throws(ImageFailure) {
    let count = try count(cluster)
    guard count > 0 else {
      throw ImageFailure(
        file.name,
        .corrupt("the cluster at offset \(geometry.offset(ofCluster: cluster)) is in use, but counts as free"))
    }
    try set(cluster, to: count - 1)
    if count == 1 { firstFree = min(firstFree, cluster) }
  }

  // MARK: Allocation

  /// Up to `count` neighbouring clusters, one at least, with a count of 1. `isFresh`: they read as zeroes.
  func allocate(upTo count: UInt64) throws(ImageFailure) -> (clusters: Range<UInt64>, isFresh: Bool) {
    while true {
      let first = try nextFree(from: firstFree)
      guard try makeBlock(for: first, at: first) else { continue }
      var end = first + 1
      while end - first < count, blockIndex(end) == blockIndex(first), try self.count(end) == 0 { end += 1 }
      firstFree = end
      return try take(first..<end)
    }
  }

  /// `count` neighbouring clusters for metadata.
  func allocateMetadata(_ count: UInt64) throws(ImageFailure) -> Range<UInt64> {
    var first = try nextFree(from: firstFree)
    search: while true {
      for cluster in first..<first + count where try self.count(cluster) != 0 {
        first = try nextFree(from: cluster)
        continue search
      }
      for cluster in first..<first + count where try !makeBlock(for: cluster, at: first) {
        first += 1
        continue search
      }
      let clusters = try take(first..<first + count).clusters
      if first == firstFree { firstFree = clusters.upperBound }
      reserved.formUnion(clusters)
      return clusters
    }
  }

  private func take(_ clusters: Range<UInt64>) throws(ImageFailure) -> (clusters: Range<UInt64>, isFresh: Bool) {
    for cluster in clusters {
      guard !reserved.contains(cluster) else {
        throw ImageFailure(
          file.name,
          .corrupt(
            "metadata at offset \(geometry.offset(ofCluster: cluster)) counts as free, so data would overwrite it"))
      }
      try set(cluster, to: 1)
    }
    let isFresh = clusters.lowerBound >= freshFrom
    freshFrom = max(freshFrom, clusters.upperBound)
    return (clusters, isFresh)
  }

  /// Gives clusters back that nothing in the file refers to.
  func cancel(_ clusters: Range<UInt64>) throws(ImageFailure) {
    for cluster in clusters { try release(cluster) }
  }

  private func nextFree(from start: UInt64) throws(ImageFailure) -> UInt64 {
    var cluster = start
    while let block = try block(of: cluster) {
      let bytes = UnsafeRawBufferPointer(block.bytes)
      for index in index(cluster)..<geometry.blockCount where coding.value(bytes, index) == 0 {
        return blockIndex(cluster) << geometry.blockBits + UInt64(index)
      }
      cluster = (blockIndex(cluster) + 1) << geometry.blockBits
    }
    guard cluster < clusterLimit else { throw full }
    return cluster
  }

  private var full: ImageFailure {
    ImageFailure(
      file.name, .invalid("it is full: its format has no room for more clusters of \(geometry.clusterSize) bytes"))
  }

  /// Makes sure that there is a block for a cluster's count. False: there was none, and clusters that were free before,
  /// such as `place`, have become it: whoever looked for some has to look again.
  private func makeBlock(for cluster: UInt64, at place: UInt64) throws(ImageFailure) -> Bool {
    let index = Int(blockIndex(cluster))
    guard index < table.count else {
      try growTable(toHold: index)
      return false
    }
    if table[index] != 0 { return true }
    // Its own count may be in another block, which is there: places are taken from the front.
    let offset = geometry.offset(ofCluster: place)
    table[index] = offset
    dirtyEntries = dirtyEntries.spanning(index..<index + 1)
    blocks.insert(MetadataTable(offset: offset, size: Int(geometry.clusterSize), isNew: true))
    _ = try take(place..<place + 1)
    reserved.insert(place)
    return false
  }

  /// Moves the table to where it can be longer.
  private func growTable(toHold index: Int) throws(ImageFailure) {
    let perCluster = Int(geometry.clusterSize) / 8
    let clusters = max(index / perCluster + 1, tableClusters * 2)
    guard clusters << Int(geometry.clusterBits) <= Qcow2Header.refcountTableLimit else { throw full }
    let old = geometry.cluster(of: tableOffset)
    let oldClusters = old..<old + UInt64(tableClusters)
    let oldCount = table.count
    // From here on there is room for the blocks that the new table's clusters need themselves.
    table += [UInt64](repeating: 0, count: clusters * perCluster - oldCount)
    do {
      tableOffset = geometry.offset(ofCluster: try allocateMetadata(UInt64(clusters)).lowerBound)
    } catch {
      table.removeLast(table.count - oldCount)
      throw error
    }
    tableClusters = clusters
    isTableMoved = true
    pendingReleases += oldClusters
    reserved.subtract(oldClusters)
  }

  // MARK: Checkpoints

  /// What has to be in the file before anything refers to it: all changed blocks, and a table that has moved.
  func takeBlocks() -> [PendingWrite] {
    var writes = blocks.takeDirty().map { block in
      block.pins += 1
      return block.takeChanges()
    }
    if isTableMoved { writes.append(PendingWrite(offset: tableOffset, bytes: Array(bigEndian: table))) }
    return writes
  }

  /// What makes new blocks part of the image: entries of the table, unless it has moved as a whole.
  func takeLinks() -> (links: PendingWrite?, movedTable: Bool) {
    defer {
      dirtyEntries = 0..<0
      isTableMoved = false
    }
    guard !isTableMoved, !dirtyEntries.isEmpty else { return (nil, isTableMoved) }
    let sectors = dirtyEntries.lowerBound & ~63..<min((dirtyEntries.upperBound + 63) & ~63, table.count)
    return (
      PendingWrite(offset: tableOffset + UInt64(sectors.lowerBound * 8), bytes: Array(bigEndian: table[sectors])), false
    )
  }

  /// Takes back what the last two calls have given, because it could not be written.
  func restore(_ writes: [PendingWrite], hadLinks: Bool, hadMoved: Bool) {
    for write in writes {
      guard let block = write.table else { continue }
      block.pins -= 1
      let start = Int(write.offset - block.offset)
      blocks.change(block, start..<start + write.bytes.count)
    }
    if hadLinks { dirtyEntries = 0..<table.count }
    isTableMoved = isTableMoved || hadMoved
  }

  /// What the last calls have given is in the file.
  func confirm(_ writes: [PendingWrite]) {
    for write in writes {
      write.table?.pins -= 1
      write.table?.isNew = false
    }
  }
}
