import Glibc

/// Internal snapshots. None of these may be called from within a request; other threads' requests wait meanwhile.
extension Qcow2Image {
  /// In the order of the image's table.
  public var snapshots: [Qcow2Snapshot] { metadata.withLock { snapshotTable } }

  /// Keeps the disk as it is now under a name. Returns the snapshot's ID.
  @discardableResult
  public func createSnapshot(named snapshotName: String) throws(ImageFailure) -> String {
    guard 1...1023 ~= snapshotName.utf8.count else {
      throw ImageFailure(name, .invalid("a snapshot's name has 1 to 1023 bytes"))
    }
    return try exclusively { () throws(ImageFailure) in
      guard snapshotTable.count < Qcow2Header.snapshotLimit else {
        throw ImageFailure(name, .invalid("it has \(snapshotTable.count) snapshots, as many as are possible"))
      }
      guard !snapshotTable.contains(where: { $0.name == snapshotName || $0.id == snapshotName }) else {
        throw ImageFailure(name, .invalid("it has a snapshot called '\(snapshotName)' already"))
      }
      var time = timespec()
      clock_gettime(CLOCK_REALTIME, &time)
      let transaction = try Qcow2Transaction(file)
      try transaction.add(1, toAllOf: l1)
      let copy = try transaction.store(Array(bigEndian: l1.map { $0.settingCopied(false).raw }))
      let id = String((snapshotTable.compactMap { UInt64($0.id) }.max() ?? 0) + 1)
      let snapshot = Qcow2Snapshot(
        id: id, name: snapshotName, seconds: UInt32(truncatingIfNeeded: time.tv_sec), nanoseconds: UInt32(time.tv_nsec),
        diskSize: header.size, l1Offset: copy, l1Count: l1.count)
      try transaction.storeSnapshots(snapshotTable + [snapshot], replacing: snapshotTable)
      try transaction.activate(l1)
      try transaction.commit()
      return id
    }
  }

  /// Makes the disk what it was when the snapshot was taken, its size included.
  public func applySnapshot(_ idOrName: String) throws(ImageFailure) {
    try exclusively { () throws(ImageFailure) in
      let snapshot = snapshotTable[try Qcow2Snapshot.index(of: idOrName, in: snapshotTable, name)]
      let size = snapshot.diskSize ?? header.size
      guard geometry.l1Count(forSize: size) <= Qcow2Header.l1Limit else {
        throw ImageFailure(name, .corrupt("snapshot '\(snapshot.name)' claims to be of a disk of \(size) bytes"))
      }
      var l1 = try Qcow2State.readL1(file, offset: snapshot.l1Offset, count: snapshot.l1Count)
      let transaction = try Qcow2Transaction(file)
      try transaction.add(1, toAllOf: l1)
      try transaction.add(-1, toAllOf: self.l1)
      let needed = geometry.l1Count(forSize: size)
      if l1.count < needed { l1 += [Qcow2Entry](repeating: .unallocated, count: needed - l1.count) }
      transaction.header.size = size
      try transaction.activate(l1)
      try transaction.commit()
    }
  }

  public func deleteSnapshot(_ idOrName: String) throws(ImageFailure) {
    try exclusively { () throws(ImageFailure) in
      let index = try Qcow2Snapshot.index(of: idOrName, in: snapshotTable, name)
      let snapshot = snapshotTable[index]
      let transaction = try Qcow2Transaction(file)
      let l1 = try Qcow2State.readL1(file, offset: snapshot.l1Offset, count: snapshot.l1Count)
      try transaction.add(-1, toAllOf: l1)
      let first = geometry.cluster(of: snapshot.l1Offset)
      for number in 0..<geometry.clusters(forBytes: UInt64(snapshot.l1Count) * 8) {
        try transaction.add(-1, to: first + number)
      }
      var remaining = snapshotTable
      remaining.remove(at: index)
      try transaction.storeSnapshots(remaining, replacing: snapshotTable)
      try transaction.activate(self.l1)
      try transaction.commit()
    }
  }
}
