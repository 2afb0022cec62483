/// Bringing the tables in the file to where those in memory are. The order of the writes is in Qcow2Image.swift.
extension Qcow2Image {
  /// All that has changed, as it was at one moment.
  private struct Changes {
    /// Refcount blocks, a refcount table that has moved, and what leads to them.
    var blocks: [PendingWrite]
    var links: PendingWrite?
    var movedTable: Qcow2Header?
    /// L2 tables to which nothing leads yet, and changes of others and of the L1 table.
    var newTables: [PendingWrite]
    var entries: [PendingWrite]
    /// L1 entries among these.
    var l1: Range<Int>
    /// References that are gone with these changes.
    var releases: [UInt64]

    var hasStructure: Bool { links != nil || movedTable != nil }
  }

  /// Writes all changes and makes them, and all data that were written before, durable.
  func checkpoint() throws(ImageFailure) {
    checkpointing.lock()
    defer { checkpointing.unlock() }
    metadata.lock()
    if let corruption {
      metadata.unlock()
      throw corruption
    }
    let changes = takeChanges()
    metadata.unlock()
    do throws(ImageFailure) {
      try store(changes)
    } catch {
      metadata.lock()
      restore(changes)
      metadata.unlock()
      throw error
    }
    metadata.lock()
    confirm(changes)
    requests.retire(changes.releases)
    let unused = requests.takeReleasable()
    metadata.unlock()
    try release(unused)
  }

  /// Checkpoints until nothing is left to do. No request is under way.
  func settle() throws(ImageFailure) {
    try checkpoint()
    metadata.lock()
    let isDone = !refcounts.hasChanges
    metadata.unlock()
    if !isDone { try checkpoint() }
  }

  /// Keeps memory bounded when nobody flushes. Not within a request.
  func checkpointIfCrowded() throws(ImageFailure) {
    metadata.lock()
    let isCrowded = l2.isCrowded || refcounts.isCrowded
    metadata.unlock()
    if isCrowded { try checkpoint() }
  }

  private func takeChanges() -> Changes {
    let blocks = refcounts.takeBlocks()
    let (links, isMoved) = refcounts.takeLinks()
    var changes = Changes(
      blocks: blocks, links: links, movedTable: nil, newTables: [], entries: [], l1: dirtyL1,
      releases: refcounts.pendingReleases)
    if isMoved {
      header.refcountTableOffset = refcounts.tableOffset
      header.refcountTableClusters = refcounts.tableClusters
      changes.movedTable = header
    }
    refcounts.pendingReleases = []
    for table in l2.takeDirty() {
      table.pins += 1
      let write = table.takeChanges()
      if table.isNew { changes.newTables.append(write) } else { changes.entries.append(write) }
    }
    if !dirtyL1.isEmpty {
      let sectors = dirtyL1.lowerBound & ~63..<min((dirtyL1.upperBound + 63) & ~63, l1.count)
      changes.entries.append(
        PendingWrite(
          offset: header.l1Offset + UInt64(sectors.lowerBound * 8), bytes: Array(bigEndian: l1[sectors].map(\.raw))))
      dirtyL1 = 0..<0
    }
    return changes
  }

  private func store(_ changes: Changes) throws(ImageFailure) {
    for write in changes.blocks { try file.write(write.bytes, at: write.offset) }
    if changes.hasStructure {
      try synchronize()
      if let links = changes.links { try file.write(links.bytes, at: links.offset) }
      if let header = changes.movedTable { try file.write(header.encoded, at: 0) }
    }
    for write in changes.newTables { try file.write(write.bytes, at: write.offset) }
    try synchronize()
    if changes.entries.isEmpty { return }
    for write in changes.entries { try file.write(write.bytes, at: write.offset) }
    try synchronize()
  }

  private func synchronize() throws(ImageFailure) {
    if !isVolatile { try file.flush() }
  }

  private func confirm(_ changes: Changes) {
    refcounts.confirm(changes.blocks)
    for write in changes.newTables + changes.entries {
      write.table?.pins -= 1
      write.table?.isNew = false
    }
  }

  private func restore(_ changes: Changes) {
    refcounts.restore(changes.blocks, hadLinks: changes.links != nil, hadMoved: changes.movedTable != nil)
    refcounts.pendingReleases += changes.releases
    for write in changes.newTables + changes.entries {
      guard let table = write.table else { continue }
      table.pins -= 1
      let start = Int(write.offset - table.offset)
      l2.change(table, start..<start + write.bytes.count)
    }
    dirtyL1 = dirtyL1.spanning(changes.l1)
  }

  /// Counts references down that neither the file nor a request has any more, and gives the host what is free then.
  private func release(_ clusters: [UInt64]) throws(ImageFailure) {
    guard !clusters.isEmpty else { return }
    // The last reference stays until the host has made its hole, so that nobody takes the cluster meanwhile.
    var last: [UInt64] = []
    metadata.lock()
    do throws(ImageFailure) {
      for cluster in clusters {
        if try refcounts.count(cluster) > 1 { try refcounts.release(cluster) } else { last.append(cluster) }
      }
    } catch {
      noteCorruption(error)
      metadata.unlock()
      throw error
    }
    metadata.unlock()
    last.sort()
    var start = 0
    while start < last.count {
      var end = start + 1
      while end < last.count, last[end] == last[end - 1] + 1 { end += 1 }
      try file.discard(geometry.offset(ofCluster: last[start])..<geometry.offset(ofCluster: last[end - 1] + 1))
      start = end
    }
    expanded.forget()
    metadata.lock()
    defer { metadata.unlock() }
    compressedEnd = nil
    do throws(ImageFailure) {
      for cluster in last { try refcounts.release(cluster) }
    } catch {
      noteCorruption(error)
      throw error
    }
  }
}
