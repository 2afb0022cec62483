/// Writing guest data, in place or to new clusters.
extension Qcow2Image {
  /// What a write does next.
  private enum Step {
    /// The clusters are this image's own.
    case inPlace(offset: UInt64, length: UInt64)
    case newClusters(NewClusters)
  }

  /// Clusters that are being filled, and that nobody sees until they are linked.
  private struct NewClusters {
    /// The first guest cluster, and how many.
    var first: UInt64
    var count: Int
    /// Where in the file.
    var offset: UInt64
    /// They read as zeroes now.
    var isFresh: Bool
    /// They were the guest clusters' own before, as preallocated zeroes.
    var wereOwn: Bool
    /// What the first and the last of the guest clusters were.
    var oldFirst: Qcow2Entry
    var oldLast: Qcow2Entry
    /// Holds their entries; pinned.
    var table: MetadataTable
  }

  public func write(_ buffers: [UnsafeRawBufferPointer], at offset: UInt64) throws(ImageFailure) {
    let count = buffers.byteCount
    try requireWritable(at: offset, count: UInt64(count))
    let epoch = beginRequest()
    var failure: ImageFailure?
    do throws(ImageFailure) { try writePieces(buffers, at: offset) } catch { failure = error }
    endRequest(epoch)
    if let failure { throw failure }
    try checkpointIfCrowded()
  }

  /// Within a request.
  func writePieces(_ buffers: [UnsafeRawBufferPointer], at offset: UInt64) throws(ImageFailure) {
    let count = buffers.byteCount
    var done = 0
    while done < count {
      let position = offset + UInt64(done)
      switch try nextStep(position, limit: UInt64(count - done)) {
      case .inPlace(let place, let length):
        try file.write(buffers.part(done..<done + Int(length)), at: place)
        done += Int(length)
      case .newClusters(let clusters):
        let end = geometry.offset(ofCluster: clusters.first + UInt64(clusters.count))
        let length = Int(min(end - position, UInt64(count - done)))
        do throws(ImageFailure) {
          try fill(clusters, with: buffers.part(done..<done + length), at: position)
        } catch {
          giveUp(clusters)
          throw error
        }
        link(clusters)
        done += length
      }
    }
  }

  /// Decides what happens to the bytes from `offset` on, and reserves what it takes. Waits for others who are giving the
  /// same cluster a place.
  private func nextStep(_ offset: UInt64, limit: UInt64) throws(ImageFailure) -> Step {
    metadata.lock()
    defer { metadata.unlock() }
    let cluster = geometry.cluster(of: offset)
    while true {
      try requireSound()
      do throws(ImageFailure) {
        let index = geometry.l2Index(cluster)
        let found = try table(geometry.l1Index(cluster))
        let entry = try entry(found, index)
        let inCluster = offset & geometry.clusterMask
        if entry.isWritableInPlace, let found {
          return try inPlace(found, index, entry, inCluster, limit)
        }
        guard busy.contains(cluster) else {
          let wanted = Int(min(geometry.clusters(forBytes: inCluster + limit), UInt64(geometry.l2Count - index)))
          return .newClusters(try reserve(cluster, entry, upTo: wanted))
        }
      } catch {
        noteCorruption(error)
        throw error
      }
      metadata.wait()
    }
  }

  private func inPlace(
    _ table: MetadataTable, _ index: Int, _ first: Qcow2Entry, _ inCluster: UInt64, _ limit: UInt64
  ) throws(ImageFailure) -> Step {
    var length = geometry.clusterSize - inCluster
    try requireGuestData(first.offset)
    var next = index + 1
    while length < limit, next < geometry.l2Count {
      let entry = table[entry: next]
      guard entry.isWritableInPlace, entry.offset == first.offset + inCluster + length else { break }
      try requireGuestData(entry.offset)
      length += geometry.clusterSize
      next += 1
    }
    return .inPlace(offset: first.offset + inCluster, length: min(length, limit))
  }

  /// Refuses to write guest data over the image's own tables, or where the image has no clusters.
  private func requireGuestData(_ offset: UInt64) throws(ImageFailure) {
    let cluster = geometry.cluster(of: offset)
    guard !refcounts.reserved.contains(cluster) else {
      throw ImageFailure(name, .corrupt("a cluster of the disk is said to be at offset \(offset), where metadata is"))
    }
    guard cluster < refcounts.freshFrom else {
      throw ImageFailure(
        name, .corrupt("a cluster of the disk is said to be at offset \(offset), beyond the file's end"))
    }
  }

  /// Takes clusters for the guest clusters from `cluster` on, as far as they need some, and marks these as busy.
  private func reserve(_ cluster: UInt64, _ first: Qcow2Entry, upTo wanted: Int) throws(ImageFailure) -> NewClusters {
    let index = geometry.l2Index(cluster)
    let table = try writableTable(geometry.l1Index(cluster))
    let wereOwn = first.hasCluster && first.isCopied
    var count = 1
    while count < wanted, !busy.contains(cluster + UInt64(count)) {
      let next = try entry(table, index + count)
      let isOwn = next.hasCluster && next.isCopied
      let isNext = wereOwn && next.isZero && next.offset == first.offset + UInt64(count) << geometry.clusterBits
      guard isOwn ? isNext : !wereOwn else { break }
      count += 1
    }
    var clusters = NewClusters(
      first: cluster, count: count, offset: first.offset, isFresh: false, wereOwn: wereOwn, oldFirst: first,
      oldLast: first, table: table)
    if wereOwn {
      for number in 0..<UInt64(count) { try requireGuestData(first.offset + number << geometry.clusterBits) }
    } else {
      let (range, isFresh) = try refcounts.allocate(upTo: UInt64(count))
      clusters.count = range.count
      clusters.offset = geometry.offset(ofCluster: range.lowerBound)
      clusters.isFresh = isFresh && file.isZeroBeyondEnd
    }
    clusters.oldLast = table[entry: index + clusters.count - 1]
    table.pins += 1
    busy.formUnion(cluster..<cluster + UInt64(clusters.count))
    return clusters
  }

  /// Writes `buffers`, whose place on the disk is `offset`, and around them what the clusters held before.
  private func fill(
    _ clusters: NewClusters, with buffers: [UnsafeRawBufferPointer], at offset: UInt64
  ) throws(ImageFailure) {
    let start = geometry.offset(ofCluster: clusters.first)
    let end = geometry.offset(ofCluster: clusters.first + UInt64(clusters.count))
    let dataEnd = offset + UInt64(buffers.byteCount)
    let head = try old(clusters.oldFirst, start..<offset, skipsZeroes: clusters.isFresh)
    defer { head?.deallocate() }
    let tail = try old(clusters.oldLast, dataEnd..<end, skipsZeroes: clusters.isFresh)
    defer { tail?.deallocate() }
    let all = [head, tail].map { $0.map { [UnsafeRawBufferPointer($0)] } ?? [] }
    try file.write(all[0] + buffers + all[1], at: clusters.offset + (head == nil ? offset - start : 0))
  }

  /// What a range of one cluster held before, for the caller to deallocate; nil for nothing, or zeroes that may be skipped.
  private func old(
    _ entry: Qcow2Entry, _ range: Range<UInt64>, skipsZeroes: Bool
  ) throws(ImageFailure) -> UnsafeMutableRawBufferPointer? {
    guard !range.isEmpty else { return nil }
    if skipsZeroes, entry.isZero || entry.isUnallocated && range.lowerBound >= backing?.size ?? 0 { return nil }
    let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: range.count, alignment: 16)
    do throws(ImageFailure) {
      try read(place(entry, range.lowerBound & geometry.clusterMask), [buffer], at: range.lowerBound)
    } catch {
      buffer.deallocate()
      throw error
    }
    return buffer
  }

  /// Enters filled clusters in their table.
  private func link(_ clusters: NewClusters) {
    metadata.lock()
    defer { metadata.unlock() }
    let index = geometry.l2Index(clusters.first)
    for number in 0..<clusters.count {
      if !clusters.wereOwn { drop(clusters.table[entry: index + number]) }
      let offset = clusters.offset + UInt64(number) << geometry.clusterBits
      l2.set(Qcow2Entry(ownOffset: offset), clusters.table, index + number)
    }
    finish(clusters)
  }

  /// Their data could not be written.
  private func giveUp(_ clusters: NewClusters) {
    metadata.lock()
    defer { metadata.unlock() }
    if !clusters.wereOwn {
      let first = geometry.cluster(of: clusters.offset)
      // They were counted a moment ago, so only reading a count can fail: then they are leaked.
      try? refcounts.cancel(first..<first + UInt64(clusters.count))
    }
    finish(clusters)
  }

  private func finish(_ clusters: NewClusters) {
    clusters.table.pins -= 1
    busy.subtract(clusters.first..<clusters.first + UInt64(clusters.count))
    metadata.broadcast()
  }

  // MARK: Tables, under `metadata`

  /// The reference of an entry that is about to go: counted down when the file does not have it any more.
  func drop(_ entry: Qcow2Entry) { refcounts.pendingReleases += entry.clusters(geometry) }

  /// The L2 table that an L1 entry leads to, made if there is none, and copied if a snapshot has it too.
  func writableTable(_ index: Int) throws(ImageFailure) -> MetadataTable {
    guard index < l1.count else { throw ImageFailure(name, .corrupt("its L1 table is too small for its disk")) }
    let old = l1[index]
    let source = try table(index)
    if let source, old.isCopied { return source }
    let cluster = try refcounts.allocateMetadata(1).lowerBound
    let table = MetadataTable(
      offset: geometry.offset(ofCluster: cluster), size: Int(geometry.clusterSize), isNew: true)
    if let source { table.bytes.copyMemory(from: UnsafeRawBufferPointer(source.bytes)) }
    l2.insert(table)
    l1[index] = Qcow2Entry(ownOffset: table.offset)
    dirtyL1 = dirtyL1.spanning(index..<index + 1)
    if source != nil {
      let oldCluster = geometry.cluster(of: old.offset)
      refcounts.pendingReleases.append(oldCluster)
      refcounts.reserved.remove(oldCluster)
    }
    return table
  }
}
