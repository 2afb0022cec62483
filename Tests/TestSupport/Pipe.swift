import Glibc

/// A pipe that is closed with the test.
public final class Pipe: Sendable {
  public let readEnd: Int32
  public let writeEnd: Int32

  public init() {
    var ends: [Int32] = [0, 0]
    precondition(pipe(&ends) == 0, "no pipe")
    (readEnd, writeEnd) = (ends[0], ends[1])
    for end in ends { _ = fcntl(end, F_SETFD, FD_CLOEXEC) }
  }

  deinit {
    close(readEnd)
    close(writeEnd)
  }

  public func send(_ bytes: [UInt8]) { _ = bytes.withUnsafeBytes { write(writeEnd, $0.baseAddress, $0.count) } }

  /// Reads until `count` bytes are there.
  public func receive(_ count: Int) -> [UInt8] {
    var bytes: [UInt8] = []
    while bytes.count < count {
      let missing = count - bytes.count
      let piece = [UInt8](unsafeUninitializedCapacity: missing) { buffer, got in
        got = max(0, read(readEnd, buffer.baseAddress, missing))
      }
      if piece.isEmpty { break }
      bytes += piece
    }
    return bytes
  }
}
