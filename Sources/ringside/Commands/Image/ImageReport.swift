import Storage

/// What `ringside image info` says of an image. Names in JSON are qemu-img's where it has some.
struct ImageReport {
  let info: ImageInfo

  init(_ info: ImageInfo) { self.info = info }

  var text: String {
    var lines = [
      ("image", info.path), ("format", formatName),
      ("disk size", sizeText),
      ("on the host", "\(MemorySize(bytes: info.allocatedSize))"),
    ]
    if let backing = info.backing {
      lines.append(("backing file", backing.path + (backing.format.map { " (\($0))" } ?? " (format not recorded)")))
      if let path = info.backingPath, path != backing.path { lines.append(("which is", path)) }
    }
    if let qcow2 = info.qcow2 {
      lines.append(("clusters", "\(qcow2.clusterSize) bytes, refcounts of \(qcow2.refcountBits) bits"))
      lines.append(("compression", qcow2.compression.name))
      if qcow2.usesLazyRefcounts { lines.append(("lazy refcounts", "allowed")) }
      if qcow2.isDirty {
        lines.append(("state", "not closed in good order; mended when it is next opened for writing"))
      }
      if qcow2.isCorrupt { lines.append(("state", "corrupt; see 'ringside image check'")) }
    }
    let width = lines.map(\.0.count).max() ?? 0
    let table = lines.map { $0 + String(repeating: " ", count: width - $0.count) + "  " + $1 + "\n" }.joined()
    guard let snapshots = info.qcow2?.snapshots, !snapshots.isEmpty else { return table }
    return table + "snapshots\n" + SnapshotReport(snapshots).text
  }

  private var sizeText: String {
    let short = MemorySize(bytes: info.size).description
    let exact = "\(info.size) bytes"
    return short == exact ? exact : "\(short) (\(exact))"
  }

  private var formatName: String {
    info.format.rawValue + (info.qcow2.map { ", version \($0.version)" } ?? "")
  }

  var json: JSONValue {
    var members: [(String, JSONValue)] = [
      ("filename", .text(info.path)), ("format", .text(info.format.rawValue)), ("virtual-size", .number(info.size)),
      ("actual-size", .number(info.allocatedSize)),
    ]
    if let backing = info.backing {
      members.append(("backing-filename", .text(backing.path)))
      if let format = backing.format { members.append(("backing-filename-format", .text(format.rawValue))) }
      if let path = info.backingPath { members.append(("full-backing-filename", .text(path))) }
    }
    if let qcow2 = info.qcow2 {
      members += [
        ("cluster-size", .number(qcow2.clusterSize)), ("dirty-flag", .boolean(qcow2.isDirty)),
        ("version", .number(UInt64(qcow2.version))), ("refcount-bits", .number(UInt64(qcow2.refcountBits))),
        ("lazy-refcounts", .boolean(qcow2.usesLazyRefcounts)), ("corrupt", .boolean(qcow2.isCorrupt)),
        ("compression-type", .text(qcow2.compression.name)), ("snapshots", SnapshotReport(qcow2.snapshots).json),
      ]
    }
    return .object(members)
  }
}
