import Storage

/// The disks' part of a machine's snapshot: what a machine writes must be as it was when the memory was. A qcow2 image keeps
/// that itself, as an internal snapshot, whose name the machine's snapshot knows; what is only read needs nothing.
extension VirtualMachine {
  /// Makes an internal snapshot in each disk that the machine writes. Returns their names, in the disks' order, with an empty
  /// one for a disk that needs none. Where one fails, none is left.
  func saveDisks(name: String, file: String) throws(SnapshotFailure) -> [String] {
    var names: [String] = []
    do throws(SnapshotFailure) {
      for disk in disks {
        let isWritten = !disk.isReadOnly
        if isWritten {
          try Self.internalSnapshot(of: disk.image, file) { image throws(ImageFailure) in
            _ = try image.createSnapshot(named: name)
          }
        }
        names.append(isWritten ? name : "")
      }
    } catch {
      dropDisks(names)
      throw error
    }
    return names
  }

  /// Takes back what `saveDisks` did. What cannot be deleted stays: it harms nobody.
  func dropDisks(_ names: [String]) {
    for (disk, name) in zip(disks, names) where !name.isEmpty {
      try? (disk.image as? Qcow2Image)?.deleteSnapshot(name)
    }
  }

  /// Puts the disks into the state that they had when the machine was saved.
  public func restoreDisks(_ snapshot: SnapshotFile) throws(SnapshotFailure) {
    guard snapshot.disks.count == disks.count else {
      throw SnapshotFailure(
        snapshot.name, .mismatch("it has \(snapshot.disks.count) disks and this machine \(disks.count)"))
    }
    for (disk, name) in zip(disks, snapshot.disks) where !name.isEmpty {
      try Self.internalSnapshot(of: disk.image, snapshot.name) { image throws(ImageFailure) in
        try image.applySnapshot(name)
      }
    }
  }

  private static func internalSnapshot(
    of image: any DiskImage, _ file: String, _ body: (Qcow2Image) throws(ImageFailure) -> Void
  ) throws(SnapshotFailure) {
    guard let qcow2 = image as? Qcow2Image, !qcow2.isVolatile else {
      throw SnapshotFailure(
        file,
        .disk(
          "'\(image.name)' keeps no snapshots; make it qcow2 ('ringside image convert') or give it readonly=on"))
    }
    do throws(ImageFailure) { try body(qcow2) } catch { throw SnapshotFailure(file, .disk(error.description)) }
  }
}
