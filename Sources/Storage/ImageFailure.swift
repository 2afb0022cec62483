import Glibc

/// Something about a disk image did not work. For the person at the keyboard: which file, what is wrong, and where there
/// is something to be done, what.
public struct ImageFailure: Error, CustomStringConvertible, Sendable, Equatable {
  public enum Reason: Sendable, Equatable {
    /// The host's kernel refused; `action` is an infinitive such as "write to".
    case host(action: String, code: Int32)
    /// The path leads to a directory, a pipe, a terminal …
    case notAFile
    /// The file cannot be opened for writing.
    case notWritable(code: Int32)
    /// Another open file has a lock that excludes this use; `wantsToWrite` tells what this use was.
    case inUse(wantsToWrite: Bool)
    /// A change of what was opened for reading only.
    case readOnly
    /// A request of `count` bytes at `offset` of a disk of `size` bytes.
    case outOfBounds(offset: UInt64, count: UInt64, size: UInt64)
    /// The guest tried to make its raw disk look like an image of this format, and nobody had said that it is raw.
    case disguise(ImageFormat.Signature)
    /// The file ends before what should be in it, or has become shorter.
    case truncated(what: String)
    /// The file contradicts itself or its format; a sentence without a full stop.
    case corrupt(String)
    /// The file is right, but uses what this program does not do; a sentence without a full stop.
    case unsupported(String)
    /// The image's backing file cannot be opened, for this reason.
    case backing(String)
    /// What was asked for makes no sense for this image; a sentence without a full stop.
    case invalid(String)
  }

  /// As the user gave it.
  public var file: String
  public var reason: Reason

  public init(_ file: String, _ reason: Reason) {
    self.file = file
    self.reason = reason
  }

  /// A failure of the host call that was just made: takes `errno`.
  init(_ file: String, failedTo action: String) {
    self.init(file, .host(action: action, code: errno))
  }

  /// The host's disk, or the user's share of it, is full: the same request can succeed later.
  public var isOutOfSpace: Bool {
    if case .host(_, let code) = reason { return code == ENOSPC || code == EDQUOT }
    return false
  }

  public var description: String {
    switch reason {
    case .host(let action, let code): "could not \(action) '\(file)': \(String(cString: strerror(code)))"
    case .notAFile: "'\(file)' is neither a file nor a block device, so it cannot be a disk image"
    case .notWritable(let code):
      "could not open '\(file)' for writing: \(String(cString: strerror(code))); to only read it, open it read-only"
    case .inUse(wantsToWrite: true):
      "'\(file)' is in use by another machine or program, so it cannot be written; end that first"
    case .inUse(wantsToWrite: false):
      "'\(file)' is being written by another machine or program, so what is read would not hold together; end that first"
    case .readOnly: "'\(file)' is read-only"
    case .outOfBounds(let offset, let count, let size):
      "\(count) bytes at \(offset) are not within '\(file)', a disk of \(size) bytes"
    case .disguise(let signature):
      "'\(file)' was taken for a raw image, because nobody said what it is, and the guest would make it look like "
        + "\(signature.title): the write is refused; say format=raw to allow it"
    case .truncated(let what): "'\(file)' is truncated: it ends before the end of its \(what)"
    case .corrupt(let problem): "'\(file)' is corrupt: \(problem)"
    case .unsupported(let problem): "'\(file)' cannot be used: \(problem)"
    case .backing(let problem): "'\(file)' cannot be used without its backing file, and \(problem)"
    case .invalid(let problem): "'\(file)': \(problem)"
    }
  }
}
