/// Where a disk's bytes are, and getting them.
extension Qcow2Image {
  /// A stretch of the disk that is in one place.
  struct Run {
    enum Place {
      case zero
      case backing
      /// At this offset in the file.
      case file(UInt64)
      /// In this compressed cluster, from the byte on.
      case compressed(Qcow2Entry, from: Int)
    }
    var place: Place
    /// In bytes.
    var length: UInt64
  }

  public func read(_ buffers: [UnsafeMutableRawBufferPointer], at offset: UInt64) throws(ImageFailure) {
    let count = buffers.byteCount
    try requireRange(at: offset, count: UInt64(count))
    let epoch = beginRequest()
    defer { endRequest(epoch) }
    var done = 0
    while done < count {
      let position = offset + UInt64(done)
      let run = try locate(position, limit: UInt64(count - done))
      let end = done + Int(run.length)
      try read(run.place, buffers.part(done..<end), at: position)
      done = end
    }
  }

  public func extent(at offset: UInt64) throws(ImageFailure) -> ImageExtent {
    try requireRange(at: offset, count: 1)
    let epoch = beginRequest()
    defer { endRequest(epoch) }
    let run = try locate(offset, limit: size - offset)
    guard case .backing = run.place else {
      if case .zero = run.place { return ImageExtent(length: run.length, isZero: true) }
      return ImageExtent(length: run.length, isZero: false)
    }
    guard let backing, offset < backing.size else { return ImageExtent(length: run.length, isZero: true) }
    var extent = try backing.extent(at: offset)
    extent.length = min(extent.length, run.length)
    return extent
  }

  /// Whether this image itself says what is at `offset`, or leaves it to its backing file; and for how many bytes.
  func isOwn(at offset: UInt64) throws(ImageFailure) -> (isOwn: Bool, length: UInt64) {
    let epoch = beginRequest()
    defer { endRequest(epoch) }
    let run = try locate(offset, limit: size - offset)
    if case .backing = run.place { return (false, run.length) }
    return (true, run.length)
  }

  /// The place of the bytes from `offset` on, at most `limit` of them, and within one L2 table.
  func locate(_ offset: UInt64, limit: UInt64) throws(ImageFailure) -> Run {
    metadata.lock()
    defer { metadata.unlock() }
    let cluster = geometry.cluster(of: offset)
    let inCluster = offset & geometry.clusterMask
    var index = geometry.l2Index(cluster)
    let table = try table(geometry.l1Index(cluster))
    let first = try entry(table, index)
    var length = geometry.clusterSize - inCluster
    while length < limit, index + 1 < geometry.l2Count {
      index += 1
      let next = try entry(table, index)
      guard continues(first, by: length + inCluster, next) else { break }
      length += geometry.clusterSize
    }
    return Run(place: place(first, inCluster), length: min(length, limit))
  }

  func place(_ entry: Qcow2Entry, _ inCluster: UInt64) -> Run.Place {
    if entry.isCompressed { return .compressed(entry, from: Int(inCluster)) }
    if entry.isZero { return .zero }
    return entry.hasCluster ? .file(entry.offset + inCluster) : .backing
  }

  /// Whether `next` is `distance` bytes behind `first` in the same place.
  private func continues(_ first: Qcow2Entry, by distance: UInt64, _ next: Qcow2Entry) -> Bool {
    if first.isCompressed || next.isCompressed { return false }
    if first.isZero || next.isZero { return first.isZero && next.isZero }
    return first.hasCluster ? next.offset == first.offset + distance : next.isUnallocated
  }

  /// Fills the buffers from one place; `offset` is where they are on the disk. No lock is held.
  func read(
    _ place: Run.Place, _ buffers: [UnsafeMutableRawBufferPointer], at offset: UInt64
  ) throws(ImageFailure) {
    switch place {
    case .zero: buffers.clear()
    case .backing: try readBacking(buffers, at: offset)
    case .file(let position): try file.read(buffers, at: position)
    case .compressed(let entry, let start):
      let bytes = try expanded.bytes(of: entry.raw) { target throws(ImageFailure) in try expand(entry, into: target) }
      bytes.withUnsafeBytes { buffers.copy(from: $0.part(start..<start + buffers.byteCount)) }
    }
  }

  /// What the backing file has; zeroes where it is shorter, or there is none.
  private func readBacking(_ buffers: [UnsafeMutableRawBufferPointer], at offset: UInt64) throws(ImageFailure) {
    guard let backing, offset < backing.size else { return buffers.clear() }
    let count = buffers.byteCount
    let there = Int(min(UInt64(count), backing.size - offset))
    try backing.read(buffers.part(0..<there), at: offset)
    if there < count { buffers.part(there..<count).clear() }
  }

  private func expand(_ entry: Qcow2Entry, into target: UnsafeMutableRawBufferPointer) throws(ImageFailure) {
    let range = entry.compressedRange(geometry)
    var source = [UInt8](repeating: 0, count: range.count)
    let result = source.withUnsafeMutableBytes { source in
      Result { () throws(ImageFailure) in
        // The last sector need not be whole in the file.
        let count = try file.read([source], at: range.lowerBound)
        return count > 0 && compression.expand(UnsafeRawBufferPointer(source), into: target)
      }
    }
    guard try result.get() else {
      throw ImageFailure(name, .corrupt("the compressed cluster at offset \(range.lowerBound) cannot be expanded"))
    }
  }

  // MARK: Tables, under `metadata`

  /// The L2 table that an L1 entry leads to; nil where there is none.
  func table(_ index: Int) throws(ImageFailure) -> MetadataTable? {
    guard index < l1.count else { return nil }
    let offset = l1[index].offset
    if offset == 0 { return nil }
    if let known = l2.find(offset) { return known }
    guard offset & geometry.clusterMask == 0 else {
      throw ImageFailure(name, .corrupt("L1 entry \(index) leads to offset \(offset), where no L2 table can be"))
    }
    let table = MetadataTable(offset: offset, size: Int(geometry.clusterSize), isNew: false)
    guard try file.read([table.bytes], at: offset) == table.bytes.count else {
      throw ImageFailure(name, .truncated(what: "L2 tables (L1 entry \(index) leads to offset \(offset))"))
    }
    l2.insert(table)
    return table
  }

  /// An entry of an L2 table, if what it says is possible.
  func entry(_ table: MetadataTable?, _ index: Int) throws(ImageFailure) -> Qcow2Entry {
    guard let entry = table?[entry: index] else { return .unallocated }
    guard entry.isCompressed || entry.offset & geometry.clusterMask == 0 else {
      throw ImageFailure(name, .corrupt("an L2 table leads to offset \(entry.offset), where no cluster can be"))
    }
    guard header.version >= 3 || !entry.isZero else {
      throw ImageFailure(name, .corrupt("an L2 table has a cluster of zeroes, which version 2 does not know"))
    }
    return entry
  }
}
