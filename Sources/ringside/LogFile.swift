import Glibc
import Host

/// A file that gets what a machine says beside its console. A write that fails is reported once, and ends it.
final class LogFile: Sendable {
  private let descriptor: Int32
  private let writer: BatchingWriter

  /// Creates the file, or empties it.
  init(path: String) throws(HostFailure) {
    descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o666)
    guard descriptor >= 0 else { throw HostFailure("open '\(path)' for a log") }
    writer = try BatchingWriter(
      descriptor: descriptor, name: "'\(path)'", onRoom: {}, onFailure: { Ringside.report($0.description) })
  }

  deinit { close(descriptor) }

  /// Appends. What the file's writer cannot follow with is dropped. Never waits.
  func write(_ bytes: [UInt8]) { _ = writer.offer(bytes) }

  /// Waits until everything is written, but not for longer than `patience` nanoseconds.
  func finish(patience: UInt64) { _ = try? writer.finish(patience: patience) }
}
