import Host
import Synchronization

// qcow2: an image whose clusters are where its tables say (docs/interop/qcow2.txt in QEMU's sources).
//
// Guest data are read and written without any lock held; the tables are in memory, under one lock, `metadata`. A request
// looks up where its next bytes are, lets go of the lock, and moves them. A write to clusters that are not its image's
// own (absent, shared with a snapshot, compressed, zero) takes new ones, fills them, and then enters them in the table.
// While it does, they are `busy`, and other writers wait; readers see what was there before.
//
// Nothing of the tables is written but by a checkpoint, which flush, close and too many changes bring about. It copies
// all that has changed at one moment, and writes it in this order, each step on stable storage before the next:
//   1. new refcount blocks and a moved refcount table, 2. what leads to them,
//   3. refcounts, and L2 tables that nothing leads to yet (guest data have been written before),
//   4. changes of L2 and L1 tables.
// So whatever the tables in the file refer to is there and counted, wherever power fails. References that are gone
// are counted down after step 4, so by the next checkpoint; a power cut between leaves leaks, never a cluster that is in
// use and counts as free. And such a cluster is not used again before that, so that data which was flushed stays.
//
// Whatever changes more than that (snapshots, size, repair) is a `Qcow2Transaction`, with no request under way.
//
// Locks, outermost first: `checkpointing`, `metadata`. A backing image's locks come after both, and are taken with
// neither held.

/// A disk in a qcow2 image, version 2 or 3.
public final class Qcow2Image: ResizableImage, @unchecked Sendable {
  public let name: String
  public let isReadOnly: Bool
  /// Nobody wants to see the image again: nothing need be durable.
  public let isVolatile: Bool
  let file: any ImageFile
  /// What is not in the image is there; read-only.
  public let backing: (any DiskImage)?
  let geometry: Qcow2Geometry
  let compression: Compression
  private let currentSize: Atomic<UInt64>
  public var size: UInt64 { currentSize.load(ordering: .relaxed) }

  /// Held from the beginning of a checkpoint to its end.
  let checkpointing = Monitor()

  /// Guards all that follows. Waited on for `busy` clusters and `isExclusive`.
  let metadata = Monitor()
  var header: Qcow2Header
  var extensions: [Qcow2Extension]
  var snapshotTable: [Qcow2Snapshot]
  var l1: [Qcow2Entry]
  /// L1 entries that the file does not have yet.
  var dirtyL1 = 0..<0
  var l2: TableCache
  var refcounts: Qcow2Refcounts
  /// Guest clusters that somebody is about to give new clusters.
  var busy: Set<UInt64> = []
  var requests = RequestEpochs()
  /// Somebody needs the image for himself.
  var isExclusive = false
  /// The tables contradict each other: nothing is written any more.
  var corruption: ImageFailure?
  /// Where the next compressed cluster goes; nil: to a new cluster.
  var compressedEnd: UInt64?

  /// The last clusters that were expanded.
  let expanded: ExpandedClusters

  /// Opens the image in `file`, a read-only one as it was in an internal snapshot, if one is named. `backing` must be what
  /// the image's `BackingReference` names. `isVolatile`: the image ends with this object.
  public init(
    _ file: any ImageFile, backing: (any DiskImage)?, isVolatile: Bool = false, snapshot: String? = nil
  ) throws(ImageFailure) {
    name = file.name
    isReadOnly = file.isReadOnly
    self.isVolatile = isVolatile
    self.file = file
    self.backing = backing
    let header = try Qcow2Header(of: file)
    if !file.isReadOnly {
      guard !header.isCorrupt else {
        throw ImageFailure(
          file.name,
          .corrupt("it is marked so, and is not written before 'ringside image check --repair' has seen to it"))
      }
      if header.isDirty { try Qcow2Check(file).repair(.all) }
    }
    var state = try Qcow2State(file, checksOverlaps: !file.isReadOnly)
    if let snapshot { try state.goBack(to: snapshot, file) }
    self.header = state.header
    geometry = state.geometry
    compression = state.header.compression
    extensions = state.extensions
    snapshotTable = state.snapshots
    l1 = state.l1
    l2 = state.l2
    refcounts = state.refcounts
    currentSize = Atomic(state.header.size & ~511)
    expanded = ExpandedClusters(clusterSize: Int(state.geometry.clusterSize))
    if !isReadOnly { try clearAutoclearFeatures() }
  }

  /// Features that stay true only while everybody who writes knows them. Nobody here does.
  private func clearAutoclearFeatures() throws(ImageFailure) {
    guard header.autoclearFeatures != 0 else { return }
    header.autoclearFeatures = 0
    try file.write(header.encoded, at: 0)
    try file.flush()
  }

  /// Forgets all that is in memory and reads the image again, after a transaction. `isExclusive` is set.
  func reload() throws(ImageFailure) {
    let state = try Qcow2State(file, checksOverlaps: true)
    metadata.lock()
    defer { metadata.unlock() }
    header = state.header
    extensions = state.extensions
    snapshotTable = state.snapshots
    l1 = state.l1
    l2 = state.l2
    refcounts = state.refcounts
    compressedEnd = nil
    expanded.forget()
    currentSize.store(state.header.size & ~511, ordering: .relaxed)
  }

  // MARK: Requests

  /// A request begins; every one ends with `endRequest`.
  func beginRequest() -> UInt64 {
    metadata.lock()
    defer { metadata.unlock() }
    while isExclusive { metadata.wait() }
    return requests.begin()
  }

  func endRequest(_ epoch: UInt64) {
    metadata.lock()
    defer { metadata.unlock() }
    requests.end(epoch)
    if isExclusive, requests.isIdle { metadata.broadcast() }
  }

  /// Runs `body` with no request under way and nothing unwritten, and reads the image again afterwards.
  func exclusively<Value>(_ body: () throws(ImageFailure) -> Value) throws(ImageFailure) -> Value {
    guard !isReadOnly else { throw ImageFailure(name, .readOnly) }
    metadata.lock()
    while isExclusive { metadata.wait() }
    isExclusive = true
    while !requests.isIdle { metadata.wait() }
    let corruption = corruption
    metadata.unlock()
    defer {
      metadata.lock()
      isExclusive = false
      metadata.broadcast()
      metadata.unlock()
    }
    if let corruption { throw corruption }
    try settle()
    let result = Result { () throws(ImageFailure) in try body() }
    do throws(ImageFailure) {
      try reload()
    } catch {
      // What is in memory is not what is in the file.
      metadata.withLock { self.corruption = error }
      throw error
    }
    return try result.get()
  }

  /// Refuses to write once the tables are known to be wrong. Under `metadata`.
  func requireSound() throws(ImageFailure) {
    if let corruption { throw corruption }
  }

  /// The tables have been found wrong: marks the image so, and nothing writes to it any more. Under `metadata`.
  func noteCorruption(_ failure: ImageFailure) {
    guard case .corrupt = failure.reason, corruption == nil else { return }
    corruption = failure
    guard header.version >= 3, !isReadOnly, !isVolatile else { return }
    // What cannot be marked is still not written to.
    guard var stored = try? Qcow2Header(of: file) else { return }
    stored.incompatibleFeatures |= Qcow2Header.corruptBit
    try? file.write(stored.encoded, at: 0)
    try? file.flush()
  }

  public func flush() throws(ImageFailure) {
    guard !isReadOnly, !isVolatile else { return }
    try checkpoint()
  }

  public func close() throws(ImageFailure) {
    if !isReadOnly, !isVolatile {
      metadata.lock()
      let corruption = corruption
      metadata.unlock()
      if corruption == nil { try settle() }
    }
    file.unlock()
    try backing?.close()
  }
}
