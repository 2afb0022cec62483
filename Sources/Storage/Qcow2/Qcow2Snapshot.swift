/// An internal snapshot: the disk as it was (docs/interop/qcow2.txt, "Snapshots").
public struct Qcow2Snapshot: Equatable, Sendable {
  // As they stand in the file, so that what is written back takes as much room, whatever is in them.
  private var idBytes: [UInt8]
  private var nameBytes: [UInt8]
  /// Extra data; what is known of them are the machine's state's size and the disk's, 8 bytes each.
  private var extra: [UInt8]
  /// What stands in the place that the machine's state's size had before there were extra data.
  private var shortStateSize: UInt32

  /// Unique in the image.
  public var id: String { String(decoding: idBytes, as: UTF8.self) }
  /// As the user has called it; not always unique.
  public var name: String { String(decoding: nameBytes, as: UTF8.self) }
  /// Seconds since 1970, and nanoseconds.
  public var seconds: UInt32
  public var nanoseconds: UInt32
  /// How long the machine had been running, in nanoseconds.
  public var machineTime: UInt64
  /// Bytes of a machine's state that are stored with it.
  public var machineStateSize: UInt64 { extra.count >= 8 ? extra.bigEndian(at: 0) : UInt64(shortStateSize) }
  /// Of the disk then; nil: as the disk is now (old images do not tell).
  public var diskSize: UInt64? { extra.count >= 16 ? extra.bigEndian(at: 8) : nil }
  var l1Offset: UInt64
  var l1Count: Int

  /// QEMU's limits for a table that is believed.
  private static let tableLimit = 64 << 20
  private static let extraLimit = 1024
  /// Entries of all snapshots' L1 tables together that are believed, for 512 MiB of them: each is read into memory at times.
  private static let l1Limit = 64 << 20

  /// All snapshots of an image.
  static func readTable(from file: any ImageFile, header: Qcow2Header) throws(ImageFailure) -> [Qcow2Snapshot] {
    var snapshots: [Qcow2Snapshot] = []
    var offset = header.snapshotsOffset
    var l1Total = 0
    for _ in 0..<header.snapshotCount {
      let fixed = try file.bytes(at: offset, count: 40, what: "snapshot table")
      let idLength = Int(fixed.bigEndian(at: 12, as: UInt16.self))
      let nameLength = Int(fixed.bigEndian(at: 14, as: UInt16.self))
      let extraLength = Int(fixed.bigEndian(at: 36, as: UInt32.self))
      guard extraLength <= extraLimit else {
        throw ImageFailure(file.name, .corrupt("a snapshot claims to have \(extraLength) bytes of extra data"))
      }
      let rest = try file.bytes(
        at: offset + 40, count: extraLength + idLength + nameLength, what: "snapshot table")
      let snapshot = Qcow2Snapshot(fixed, rest, extraLength, idLength)
      guard snapshot.l1Count <= Qcow2Header.l1Limit, snapshot.l1Offset & (1 << UInt64(header.clusterBits) - 1) == 0,
        snapshot.l1Offset < 1 << 62
      else { throw ImageFailure(file.name, .corrupt("snapshot '\(snapshot.name)' has an impossible L1 table")) }
      if let size = snapshot.diskSize, size >= 1 << 62 {
        throw ImageFailure(
          file.name, .corrupt("snapshot '\(snapshot.name)' claims to be of a disk of \(size) bytes"))
      }
      l1Total += snapshot.l1Count
      guard l1Total <= l1Limit else {
        throw ImageFailure(file.name, .corrupt("its snapshots' L1 tables have more than \(l1Limit) entries"))
      }
      snapshots.append(snapshot)
      offset += UInt64((40 + rest.count + 7) & ~7)
      guard offset - header.snapshotsOffset <= UInt64(tableLimit) else {
        throw ImageFailure(file.name, .corrupt("its snapshot table is larger than \(tableLimit) bytes"))
      }
    }
    return snapshots
  }

  private init(_ fixed: [UInt8], _ rest: [UInt8], _ extraLength: Int, _ idLength: Int) {
    l1Offset = fixed.bigEndian(at: 0)
    l1Count = Int(fixed.bigEndian(at: 8, as: UInt32.self))
    seconds = fixed.bigEndian(at: 16)
    nanoseconds = fixed.bigEndian(at: 20)
    machineTime = fixed.bigEndian(at: 24)
    shortStateSize = fixed.bigEndian(at: 32)
    extra = Array(rest[..<extraLength])
    idBytes = Array(rest[extraLength..<extraLength + idLength])
    nameBytes = Array(rest[(extraLength + idLength)...])
  }

  init(id: String, name: String, seconds: UInt32, nanoseconds: UInt32, diskSize: UInt64, l1Offset: UInt64, l1Count: Int)
  {
    idBytes = Array(id.utf8)
    nameBytes = Array(name.utf8)
    self.seconds = seconds
    self.nanoseconds = nanoseconds
    machineTime = 0
    shortStateSize = 0
    extra = Array(bigEndian: [0, diskSize])
    self.l1Offset = l1Offset
    self.l1Count = l1Count
  }

  /// As it stands in the table.
  var encoded: [UInt8] {
    var bytes = [UInt8](repeating: 0, count: 40)
    bytes.storeBigEndian(l1Offset, at: 0)
    bytes.storeBigEndian(UInt32(l1Count), at: 8)
    bytes.storeBigEndian(UInt16(idBytes.count), at: 12)
    bytes.storeBigEndian(UInt16(nameBytes.count), at: 14)
    bytes.storeBigEndian(seconds, at: 16)
    bytes.storeBigEndian(nanoseconds, at: 20)
    bytes.storeBigEndian(machineTime, at: 24)
    bytes.storeBigEndian(shortStateSize, at: 32)
    bytes.storeBigEndian(UInt32(extra.count), at: 36)
    bytes += extra + idBytes + nameBytes
    return bytes + [UInt8](repeating: 0, count: (8 - bytes.count % 8) % 8)
  }

  /// The snapshot with this ID, or else the first with this name; `file` is the image, for the error.
  static func index(of idOrName: String, in snapshots: [Qcow2Snapshot], _ file: String) throws(ImageFailure) -> Int {
    if let index = snapshots.firstIndex(where: { $0.id == idOrName })
      ?? snapshots.firstIndex(where: { $0.name == idOrName })
    {
      return index
    }
    let names = snapshots.map { "'\($0.name)'" }.joined(separator: ", ")
    throw ImageFailure(
      file, .invalid("it has no snapshot '\(idOrName)'" + (names.isEmpty ? ", nor any other" : "; it has \(names)")))
  }

  /// Bytes of the table of `snapshots`.
  static func tableSize(_ snapshots: [Qcow2Snapshot]) -> UInt64 {
    snapshots.reduce(0) { $0 + UInt64($1.encoded.count) }
  }
}
