import Glibc

/// A snapshot's file could not be written, or is none that can be used. For the person at the keyboard.
public struct SnapshotFailure: Error, CustomStringConvertible, Equatable, Sendable {
  public enum Reason: Equatable, Sendable {
    /// The host's kernel refused; `action` is an infinitive such as "write to".
    case host(action: String, code: Int32)
    case notASnapshot
    /// Written by another version of this program.
    case version(UInt32)
    case truncated
    case damaged(String)
    /// A disk that the machine writes cannot go along; a sentence without a full stop.
    case disk(String)
    /// It fits no machine that can be built here; a sentence without a full stop.
    case mismatch(String)
  }

  public var file: String
  public var reason: Reason

  public init(_ file: String, _ reason: Reason) {
    self.file = file
    self.reason = reason
  }

  /// A failure of the host call that was just made: takes `errno`.
  init(_ file: String, failedTo action: String) { self.init(file, .host(action: action, code: errno)) }

  public var description: String {
    switch reason {
    case .host(let action, let code): "could not \(action) '\(file)': \(String(cString: strerror(code)))"
    case .notASnapshot: "'\(file)' is no snapshot of a machine"
    case .version(let version):
      "'\(file)' is a snapshot of format version \(version); this program reads version \(SnapshotFile.version)"
    case .truncated: "'\(file)' is truncated: the snapshot ends before its end"
    case .damaged(let what): "'\(file)' is damaged: \(what)"
    case .disk(let problem): "'\(file)': a disk does not go along: \(problem)"
    case .mismatch(let problem): "'\(file)' does not fit: \(problem)"
    }
  }
}
