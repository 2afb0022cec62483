/// What can be asked of a running machine through its control socket: one line each, a word and what it is about. The
/// answer is one line, too: `ok`, or `error` and what is wrong.
enum ControlRequest: Equatable {
  /// Write a snapshot of the whole machine to this path on its host.
  case saveSnapshot(path: String)
  /// Ask the guest to leave so much of its memory to the host.
  case setBalloon(MemorySize)

  private static let saveSnapshotWord = "snapshot-save"
  private static let setBalloonWord = "balloon"

  init?(line: String) {
    let parts = line.split(separator: " ", maxSplits: 1).map(String.init)
    guard parts.count == 2 else { return nil }
    switch parts[0] {
    case Self.saveSnapshotWord: self = .saveSnapshot(path: parts[1])
    case Self.setBalloonWord:
      guard let size = MemorySize(parts[1]) else { return nil }
      self = .setBalloon(size)
    default: return nil
    }
  }

  var line: String {
    switch self {
    case .saveSnapshot(let path): "\(Self.saveSnapshotWord) \(path)"
    case .setBalloon(let size): "\(Self.setBalloonWord) \(size.bytes)"
    }
  }
}
