import Glibc

/// One end of a connection on which both sides say lines of text, in turn. Blocks; for threads that have nothing else to do.
public final class LineConnection: @unchecked Sendable {
  private let descriptor: Int32
  private let name: String
  private var received: [UInt8] = []

  /// No line of ours is longer.
  private static let lineLimit = 64 << 10

  /// Takes over a connected descriptor. `name` is the socket's path, for messages.
  public init(descriptor: Int32, name: String) {
    self.descriptor = descriptor
    self.name = name
  }

  /// Connects to somebody who listens at `path`.
  public convenience init(path: String) throws(HostFailure) {
    let action = "connect to '\(path)'"
    let address = try UnixSocketAddress(path: path, action: action)
    let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
    guard descriptor >= 0 else { throw HostFailure(action) }
    self.init(descriptor: descriptor, name: path)
    guard address.apply(Glibc.connect, to: descriptor) == 0 else { throw HostFailure(action) }
  }

  deinit { close(descriptor) }

  /// Says a line; a line feed in it would end it, so it becomes a space.
  public func send(_ line: String) throws(HostFailure) {
    let bytes = line.utf8.map { $0 == 0x0a ? 0x20 : $0 } + [0x0a]
    var done = 0
    while done < bytes.count {
      let count = bytes.withUnsafeBytes { write(descriptor, $0.baseAddress! + done, $0.count - done) }
      if count < 0, errno == EINTR { continue }
      guard count > 0 else { throw HostFailure("write to '\(name)'") }
      done += count
    }
  }

  /// Waits for the other side's next line; nil: it is gone. For `patience` milliseconds at most, then an error (ETIME);
  /// negative: for ever.
  public func receive(patience: Int32 = -1) throws(HostFailure) -> String? {
    while true {
      if let end = received.firstIndex(of: 0x0a) {
        defer { received.removeFirst(end + 1) }
        return String(decoding: received[..<end], as: UTF8.self)
      }
      guard received.count < Self.lineLimit else { throw HostFailure("read from '\(name)'", code: EMSGSIZE) }
      var wanted = pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)
      let ready = poll(&wanted, 1, patience)
      if ready < 0, errno == EINTR { continue }
      guard ready > 0 else { throw HostFailure("read from '\(name)'", code: ready == 0 ? ETIME : errno) }
      var piece = [UInt8](repeating: 0, count: 4096)
      let count = piece.withUnsafeMutableBytes { read(descriptor, $0.baseAddress, $0.count) }
      if count < 0, errno == EINTR { continue }
      guard count >= 0 else { throw HostFailure("read from '\(name)'") }
      guard count > 0 else { return nil }
      received += piece[..<count]
    }
  }
}
