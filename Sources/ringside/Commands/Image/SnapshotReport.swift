import Glibc
import Storage

/// A list of an image's internal snapshots.
struct SnapshotReport {
  private let snapshots: [Qcow2Snapshot]

  init(_ snapshots: [Qcow2Snapshot]) { self.snapshots = snapshots }

  /// A line for each.
  var text: String {
    let width = snapshots.map(\.id.count).max() ?? 0
    return snapshots.map { snapshot in
      let id = snapshot.id + String(repeating: " ", count: width - snapshot.id.count)
      let size = snapshot.diskSize.map { "  disk \(MemorySize(bytes: $0))" } ?? ""
      let state = snapshot.machineStateSize > 0 ? "  machine \(MemorySize(bytes: snapshot.machineStateSize))" : ""
      return "  \(id)  \(Self.date(snapshot.seconds))\(size)\(state)  \(snapshot.name)\n"
    }.joined()
  }

  /// As `2026-11-27 15:04:05`, in the local time zone.
  private static func date(_ seconds: UInt32) -> String {
    var time = time_t(seconds)
    var parts = tm()
    localtime_r(&time, &parts)
    var text = [CChar](repeating: 0, count: 32)
    let count = strftime(&text, text.count, "%Y-%m-%d %H:%M:%S", &parts)
    return String(decoding: text[..<count].map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }

  var json: JSONValue {
    .list(
      snapshots.map { snapshot in
        .object(
          [
            ("id", .text(snapshot.id)), ("name", .text(snapshot.name)),
            ("date-sec", .number(UInt64(snapshot.seconds))), ("date-nsec", .number(UInt64(snapshot.nanoseconds))),
            ("vm-state-size", .number(snapshot.machineStateSize)),
          ] + (snapshot.diskSize.map { [("disk-size", .number($0))] } ?? []))
      })
  }
}
