/// A disk of another size. Not from within a request; other threads' requests wait meanwhile.
extension Qcow2Image {
  /// Makes the disk `newSize` bytes large, a multiple of 512. What it grows by reads as zeroes; what it shrinks by is lost.
  public func resize(to newSize: UInt64) throws(ImageFailure) {
    guard newSize % 512 == 0 else { throw ImageFailure(name, .invalid("\(newSize) bytes are not a multiple of 512")) }
    let oldSize = size
    if newSize < oldSize {
      // The last cluster may stay: what is behind the new end must not come back when the disk grows again.
      let clusterEnd = min(geometry.clusters(forBytes: newSize) << geometry.clusterBits, oldSize)
      if newSize < clusterEnd { try writeZeroes(newSize..<clusterEnd, mayUnmap: true) }
    }
    try exclusively { () throws(ImageFailure) in
      guard header.version >= 3 || snapshotTable.isEmpty else {
        throw ImageFailure(
          name,
          .invalid("an image of version 2 with snapshots cannot be resized, as these do not know their disks' sizes"))
      }
      let needed = geometry.l1Count(forSize: newSize)
      guard newSize < 1 << 62, needed <= Qcow2Header.l1Limit else {
        throw ImageFailure(
          name, .invalid("a disk of \(newSize) bytes is too large for clusters of \(geometry.clusterSize) bytes"))
      }
      let transaction = try Qcow2Transaction(file)
      var l1 = l1
      if l1.count < needed { l1 += [Qcow2Entry](repeating: .unallocated, count: needed - l1.count) }
      if newSize < oldSize { try cut(&l1, to: newSize, transaction) }
      transaction.header.size = newSize
      try transaction.activate(l1)
      try transaction.commit()
    }
    if newSize < oldSize { try cutFile() }
    // A backing file that is larger than the disk was would shine through.
    if let backing, newSize > oldSize, backing.size > oldSize {
      try writeZeroes(oldSize..<min(newSize, backing.size), mayUnmap: true)
    }
    try flush()
  }

  /// Takes all clusters behind `size` out of the tables.
  private func cut(_ l1: inout [Qcow2Entry], to size: UInt64, _ transaction: Qcow2Transaction) throws(ImageFailure) {
    let end = geometry.clusters(forBytes: size)
    // L1 entries behind the disk's old end belong to machine states.
    let oldEnd = geometry.l1Count(forSize: self.size)
    for index in geometry.l1Index(end)..<min(oldEnd, l1.count) where l1[index].offset != 0 {
      let firstCut = max(end, UInt64(index) << geometry.l2Bits)
      var table = try transaction.l2Table(l1[index])
      for position in geometry.l2Index(firstCut)..<table.count {
        for cluster in table[position].clusters(geometry) { try transaction.add(-1, to: cluster) }
        table[position] = .unallocated
      }
      try transaction.add(-1, to: geometry.cluster(of: l1[index].offset))
      let isEmpty = geometry.l2Index(firstCut) == 0
      l1[index] =
        isEmpty ? .unallocated : Qcow2Entry(ownOffset: try transaction.store(Array(bigEndian: table.map(\.raw))))
    }
  }

  /// Cuts off what the file has behind the last cluster in use.
  private func cutFile() throws(ImageFailure) {
    try exclusively { () throws(ImageFailure) in
      let end = try refcounts.endOfUse(below: geometry.clusters(forBytes: try file.size()))
      if geometry.offset(ofCluster: end) < (try file.size()) {
        try file.resize(to: geometry.offset(ofCluster: end))
        try file.flush()
      }
    }
  }
}
