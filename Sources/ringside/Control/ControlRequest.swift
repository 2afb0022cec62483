/// What can be asked of a running machine through its control socket: one line each, a word and, for some, what it is about.
/// The answer is one line, too: `ok`, or `error` and what is wrong.
enum ControlRequest: Equatable {
  /// Write a snapshot of the whole machine to this path on its host.
  case saveSnapshot(path: String)
  /// Ask the guest to leave so much of its memory to the host.
  case setBalloon(MemorySize)
  /// Stand still.
  case pause
  /// Go on after a pause.
  case resume

  private static let saveSnapshotWord = "snapshot-save"
  private static let setBalloonWord = "balloon"
  private static let pauseWord = "pause"
  private static let resumeWord = "resume"

  init?(line: String) {
    let parts = line.split(separator: " ", maxSplits: 1).map(String.init)
    switch (parts.first, parts.dropFirst().first) {
    case (Self.saveSnapshotWord, let path?): self = .saveSnapshot(path: path)
    case (Self.setBalloonWord, let text?):
      guard let size = MemorySize(text) else { return nil }
      self = .setBalloon(size)
    case (Self.pauseWord, nil): self = .pause
    case (Self.resumeWord, nil): self = .resume
    default: return nil
    }
  }

  var line: String {
    switch self {
    case .saveSnapshot(let path): "\(Self.saveSnapshotWord) \(path)"
    case .setBalloon(let size): "\(Self.setBalloonWord) \(size.bytes)"
    case .pause: Self.pauseWord
    case .resume: Self.resumeWord
    }
  }
}
