/// What can be asked of a running machine through its control socket: one line each, a word and what it is about. The
/// answer is one line, too: `ok`, or `error` and what is wrong.
enum ControlRequest: Equatable {
  /// Write a snapshot of the whole machine to this path on its host.
  case saveSnapshot(path: String)

  private static let saveSnapshotWord = "snapshot-save"

  init?(line: String) {
    let parts = line.split(separator: " ", maxSplits: 1).map(String.init)
    guard parts.count == 2, parts[0] == Self.saveSnapshotWord else { return nil }
    self = .saveSnapshot(path: parts[1])
  }

  var line: String {
    switch self {
    case .saveSnapshot(let path): "\(Self.saveSnapshotWord) \(path)"
    }
  }
}
