import Glibc

/// The file in which perf looks for the names of generated code: `/tmp/perf-PID.map`, one line a piece.
///
/// Each line is one write(2) to a file opened for appending, so threads need no lock. A line that cannot be written (the
/// disk is full) is missed and nothing else. The file stays, for `perf report`.
public final class PerfMap: Sendable {
  public let path: String
  private let descriptor: Int32

  public init() throws(HostFailure) {
    path = "/tmp/perf-\(getpid()).map"
    // What an earlier process of that number has left; what is somebody else's stays, and is refused.
    unlink(path)
    descriptor = open(path, O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0o600)
    if descriptor < 0 { throw HostFailure("create \(path)") }
  }

  deinit { close(descriptor) }

  /// Says that the code from `start` on is called `name`, which has no line feed. Of two pieces at one place perf takes
  /// either.
  public func add(_ start: UnsafeRawPointer, size: Int, name: String) {
    let text = "\(String(UInt(bitPattern: start), radix: 16)) \(String(size, radix: 16)) \(name)\n"
    let bytes = Array(text.utf8)
    _ = bytes.withUnsafeBytes { write(descriptor, $0.baseAddress, $0.count) }
  }
}
