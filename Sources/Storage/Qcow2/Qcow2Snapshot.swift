/// An internal snapshot: the disk as it was (docs/interop/qcow2.txt, "Snapshots").
public struct Qcow2Snapshot: Equatable, Sendable {
  /// Unique in the image.
  public var id: String
  /// As the user has called it; not always unique.
  public var name: String
  /// Seconds since 1970, and nanoseconds.
  public var seconds: UInt32
  public var nanoseconds: UInt32
  /// How long the machine had been running, in nanoseconds.
  public var machineTime: UInt64
  /// Bytes of a machine's state that are stored with it.
  public var machineStateSize: UInt64
  /// Of the disk then; nil: as the disk is now (old images do not tell).
  public var diskSize: UInt64?
  var l1Offset: UInt64
  var l1Count: Int
  /// Behind what is known of the extra data.
  var unknownExtra: [UInt8] = []

  /// QEMU's limits for a table that is believed.
  private static let tableLimit = 64 << 20
  private static let extraLimit = 1024

  /// All snapshots of an image.
  static func readTable(from file: any ImageFile, header: Qcow2Header) throws(ImageFailure) -> [Qcow2Snapshot] {
    var snapshots: [Qcow2Snapshot] = []
    var offset = header.snapshotsOffset
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
    machineStateSize = extraLength >= 8 ? rest.bigEndian(at: 0) : UInt64(fixed.bigEndian(at: 32, as: UInt32.self))
    diskSize = extraLength >= 16 ? rest.bigEndian(at: 8) : nil
    unknownExtra = extraLength > 16 ? Array(rest[16..<extraLength]) : []
    id = String(decoding: rest[extraLength..<extraLength + idLength], as: UTF8.self)
    name = String(decoding: rest[(extraLength + idLength)...], as: UTF8.self)
  }

  init(id: String, name: String, seconds: UInt32, nanoseconds: UInt32, diskSize: UInt64, l1Offset: UInt64, l1Count: Int)
  {
    self.id = id
    self.name = name
    self.seconds = seconds
    self.nanoseconds = nanoseconds
    machineTime = 0
    machineStateSize = 0
    self.diskSize = diskSize
    self.l1Offset = l1Offset
    self.l1Count = l1Count
  }

  /// As it stands in the table.
  var encoded: [UInt8] {
    var bytes = [UInt8](repeating: 0, count: 56)
    bytes.storeBigEndian(l1Offset, at: 0)
    bytes.storeBigEndian(UInt32(l1Count), at: 8)
    bytes.storeBigEndian(UInt16(id.utf8.count), at: 12)
    bytes.storeBigEndian(UInt16(name.utf8.count), at: 14)
    bytes.storeBigEndian(seconds, at: 16)
    bytes.storeBigEndian(nanoseconds, at: 20)
    bytes.storeBigEndian(machineTime, at: 24)
    bytes.storeBigEndian(UInt32(truncatingIfNeeded: machineStateSize), at: 32)
    bytes.storeBigEndian(machineStateSize, at: 40)
    let hasExtra = diskSize != nil || !unknownExtra.isEmpty
    if let diskSize { bytes.storeBigEndian(diskSize, at: 48) }
    let extra = hasExtra ? 16 + unknownExtra.count : 8
    bytes.storeBigEndian(UInt32(extra), at: 36)
    if !hasExtra { bytes.removeLast(8) }
    bytes += unknownExtra
    bytes += id.utf8
    bytes += name.utf8
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
