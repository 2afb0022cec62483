/// Writing compressed clusters: for images that are made in one go, not by a guest.
extension Qcow2Image {
  /// Bytes of a cluster.
  public var clusterSize: Int { Int(geometry.clusterSize) }

  /// Gives an unallocated cluster compressed contents. `data` is the cluster at `offset`, or what the disk has of it; both
  /// are at a cluster's boundary. Data that do not become smaller are written as they are.
  public func writeCompressed(_ data: UnsafeRawBufferPointer, at offset: UInt64) throws(ImageFailure) {
    try requireWritable(at: offset, count: UInt64(data.count))
    guard offset & geometry.clusterMask == 0, data.count <= clusterSize else {
      throw ImageFailure(name, .invalid("compressed data must be whole clusters of \(clusterSize) bytes"))
    }
    guard let bytes = compression.compress(wholeCluster: data, size: clusterSize) else {
      return try write([data], at: offset)
    }
    let epoch = beginRequest()
    var failure: ImageFailure?
    do throws(ImageFailure) { try store(compressed: bytes, data, at: offset) } catch { failure = error }
    endRequest(epoch)
    if let failure { throw failure }
    try checkpointIfCrowded()
  }

  private func store(
    compressed bytes: [UInt8], _ data: UnsafeRawBufferPointer, at offset: UInt64
  ) throws(ImageFailure) {
    let cluster = geometry.cluster(of: offset)
    metadata.lock()
    let reserved = Result { () throws(ImageFailure) in try reserveCompressed(cluster, UInt64(bytes.count)) }
    metadata.unlock()
    guard let (table, entry, place) = try reserved.get() else { return try writePieces([data], at: offset) }
    let written = Result { () throws(ImageFailure) in try file.write(bytes, at: place) }
    metadata.lock()
    defer { metadata.unlock() }
    table.pins -= 1
    busy.remove(cluster)
    metadata.broadcast()
    // What was not written stays counted, a leak: others may share its clusters by now.
    try written.get()
    l2.set(entry, table, geometry.l2Index(cluster))
  }

  /// Takes room for `count` compressed bytes; nil: the cluster has a place already, or the room cannot be expressed.
  private func reserveCompressed(
    _ cluster: UInt64, _ count: UInt64
  ) throws(ImageFailure) -> (MetadataTable, Qcow2Entry, UInt64)? {
    try requireSound()
    let table = try writableTable(geometry.l1Index(cluster))
    let old = try entry(table, geometry.l2Index(cluster))
    guard !busy.contains(cluster), old.isUnallocated || old == .zero else { return nil }
    let place = try allocateBytes(count)
    guard let entry = Qcow2Entry(compressed: place..<place + count, geometry) else { return nil }
    table.pins += 1
    busy.insert(cluster)
    return (table, entry, place)
  }

  /// Room behind the last compressed data, if they end within a cluster whose count can grow; else at the beginning of
  /// new clusters.
  private func allocateBytes(_ count: UInt64) throws(ImageFailure) -> UInt64 {
    if let end = compressedEnd, end & geometry.clusterMask != 0 {
      let room = geometry.clusterSize - end & geometry.clusterMask
      let cluster = geometry.cluster(of: end)
      if count <= room, try refcounts.retain(cluster) {
        compressedEnd = end + count
        return end
      }
    }
    let start = geometry.offset(ofCluster: try refcounts.allocate(upTo: 1).clusters.lowerBound)
    compressedEnd = start + count
    return start
  }
}

extension Compression {
  /// Compresses a cluster of which `data` is the beginning; the rest are zeroes.
  fileprivate func compress(wholeCluster data: UnsafeRawBufferPointer, size: Int) -> [UInt8]? {
    if data.count == size { return compress(data) }
    var whole = [UInt8](data)
    whole += [UInt8](repeating: 0, count: size - data.count)
    return whole.withUnsafeBytes { compress($0) }
  }
}
