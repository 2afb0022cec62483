/// Zeroes and discards: whole clusters by their entries alone, the rest byte by byte.
extension Qcow2Image {
  public func writeZeroes(_ range: Range<UInt64>, mayUnmap: Bool) throws(ImageFailure) {
    try requireWritable(at: range.lowerBound, count: range.upperBound - range.lowerBound)
    let epoch = beginRequest()
    var failure: ImageFailure?
    do throws(ImageFailure) { try zero(range, mayUnmap: mayUnmap) } catch { failure = error }
    endRequest(epoch)
    if let failure { throw failure }
    try checkpointIfCrowded()
  }

  public func discard(_ range: Range<UInt64>) throws(ImageFailure) {
    try requireWritable(at: range.lowerBound, count: range.upperBound - range.lowerBound)
    // Version 2 cannot say that a cluster is not what its backing file has.
    guard let entry = entryOfZeroes else { return }
    let epoch = beginRequest()
    var failure: ImageFailure?
    do throws(ImageFailure) {
      try changeEntries(wholeClusters(range)) { $0.isZero && !$0.hasCluster || $0 == entry ? nil : entry }
    } catch { failure = error }
    endRequest(epoch)
    if let failure { throw failure }
    try checkpointIfCrowded()
  }

  /// What a cluster's entry must be for it to read as zeroes without a place of its own; nil: it cannot.
  private var entryOfZeroes: Qcow2Entry? {
    if backing == nil { return .unallocated }
    return header.version >= 3 ? .zero : nil
  }

  private func zero(_ range: Range<UInt64>, mayUnmap: Bool) throws(ImageFailure) {
    let whole = wholeClusters(range)
    guard !whole.isEmpty, let entry = entryOfZeroes else { return try writeZeroData(range) }
    let inner = geometry.offset(ofCluster: whole.lowerBound)..<geometry.offset(ofCluster: whole.upperBound)
    if range.lowerBound < inner.lowerBound { try writeZeroData(range.lowerBound..<inner.lowerBound) }
    let keepsPlace = !mayUnmap && header.version >= 3
    try changeEntries(whole) { old in
      if old.isZero || old == entry { return nil }
      // The place may stay only where it is this image's own.
      if keepsPlace, old.hasCluster, old.isCopied { return Qcow2Entry(raw: old.raw | Qcow2Entry.zeroFlag) }
      return entry
    }
    if inner.upperBound < range.upperBound { try writeZeroData(inner.upperBound..<range.upperBound) }
  }

  /// The clusters that lie in `range` as a whole; what the last cluster has beyond the disk's end does not matter.
  private func wholeClusters(_ range: Range<UInt64>) -> Range<UInt64> {
    let first = geometry.clusters(forBytes: range.lowerBound)
    let isToEnd = range.upperBound == size
    let end = isToEnd ? geometry.clusters(forBytes: range.upperBound) : geometry.cluster(of: range.upperBound)
    return first..<max(first, end)
  }

  /// Writes zeroes as data, but where there are some already.
  private func writeZeroData(_ range: Range<UInt64>) throws(ImageFailure) {
    let buffer = UnsafeMutableRawBufferPointer.allocate(
      byteCount: Int(min(geometry.clusterSize, UInt64(range.count))), alignment: 16)
    defer { buffer.deallocate() }
    buffer.clear()
    var offset = range.lowerBound
    while offset < range.upperBound {
      let toBoundary = geometry.clusterSize - offset & geometry.clusterMask
      let run = try locate(offset, limit: min(range.upperBound - offset, toBoundary))
      if try !readsZero(run, at: offset) {
        try writePieces([UnsafeRawBufferPointer(buffer).part(0..<Int(run.length))], at: offset)
      }
      offset += run.length
    }
  }

  private func readsZero(_ run: Run, at offset: UInt64) throws(ImageFailure) -> Bool {
    switch run.place {
    case .zero: return true
    case .backing:
      guard let backing, offset < backing.size else { return true }
      let extent = try backing.extent(at: offset)
      return extent.isZero && extent.length >= min(run.length, backing.size - offset)
    default: return false
    }
  }

  /// Gives clusters new entries where `change` says one; their old places are dropped unless the new entry has them.
  private func changeEntries(_ clusters: Range<UInt64>, _ change: (Qcow2Entry) -> Qcow2Entry?) throws(ImageFailure) {
    var next = clusters.lowerBound
    while next < clusters.upperBound {
      let tableEnd = min((next >> geometry.l2Bits + 1) << geometry.l2Bits, clusters.upperBound)
      metadata.lock()
      defer { metadata.unlock() }
      try requireSound()
      do throws(ImageFailure) {
        try changeTable(next..<tableEnd, change)
      } catch {
        noteCorruption(error)
        throw error
      }
      next = tableEnd
    }
  }

  /// As above, for clusters of one L2 table. Under `metadata`.
  private func changeTable(_ clusters: Range<UInt64>, _ change: (Qcow2Entry) -> Qcow2Entry?) throws(ImageFailure) {
    // Where there is no table, nobody is busy either.
    if change(.unallocated) == nil, try table(geometry.l1Index(clusters.lowerBound)) == nil { return }
    for cluster in clusters {
      while busy.contains(cluster) {
        metadata.wait()
        try requireSound()
      }
      let (l1Index, index) = (geometry.l1Index(cluster), geometry.l2Index(cluster))
      let old = try entry(try table(l1Index), index)
      guard let new = change(old) else { continue }
      let table = try writableTable(l1Index)
      if !(new.hasCluster && new.offset == old.offset) { drop(old) }
      l2.set(new, table, index)
    }
  }
}
