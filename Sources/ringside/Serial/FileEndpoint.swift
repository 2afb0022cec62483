import Glibc
import Host

/// A serial line that is written into a file. Nothing ever comes in.
final class FileEndpoint: SerialEndpoint, @unchecked Sendable {
  private let descriptor: Int32
  private let line: SerialLineReference
  private var writer: BatchingWriter!

  /// Creates the file, or empties it.
  init(path: String, handlers: SerialHandlers) throws(HostFailure) {
    descriptor = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o666)
    guard descriptor >= 0 else { throw HostFailure("open '\(path)' for the serial line") }
    let line = SerialLineReference()
    self.line = line
    writer = try BatchingWriter(
      descriptor: descriptor, name: "'\(path)'",
      onRoom: { line.current?.resumeTransmission() }, onFailure: handlers.fail)
  }

  deinit { close(descriptor) }

  func start(_ line: SerialLine) { self.line.current = line }
  func send(_ bytes: [UInt8]) -> Int { writer.offer(bytes) }
  func flush() { writer.flush() }
  func finish(patience: UInt64?) throws(HostFailure) { try writer.finish(patience: patience) }
  func abandon() { writer.abandon() }
}
