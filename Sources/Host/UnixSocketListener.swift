import CHost
import Glibc

/// A socket in the file system that takes connections.
public final class UnixSocketListener: @unchecked Sendable {
  private let descriptor: Int32
  private let path: String
  private var watch: EventWatch?

  /// Listens at `path`; `accepted` gets each connection's descriptor, which is its to close, on the loop's thread. A
  /// socket that nobody listens at any more is replaced; any other file at `path` is an error (EADDRINUSE).
  public init(path: String, on loop: EventLoop, accepted: @escaping @Sendable (Int32) -> Void) throws(HostFailure) {
    let action = "listen at '\(path)'"
    let address = try UnixSocketAddress(path: path, action: action)
    descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue), 0)
    guard descriptor >= 0 else { throw HostFailure(action) }
    do throws(HostFailure) {
      try Self.bind(descriptor, to: address, path: path, action: action)
    } catch {
      close(descriptor)
      throw error
    }
    // From here on the file is this object's, and `deinit` removes it.
    self.path = path
    guard listen(descriptor, 4) == 0 else { throw HostFailure(action) }
    let listener = descriptor
    watch = try loop.watch(descriptor, for: .readable) { _ in
      let connection = hostAccept(listener)
      if connection >= 0 { accepted(connection) }
    }
  }

  deinit {
    watch?.cancel()
    close(descriptor)
    unlink(path)
  }

  private static func bind(
    _ descriptor: Int32, to address: UnixSocketAddress, path: String, action: String
  ) throws(HostFailure) {
    if address.apply(Glibc.bind, to: descriptor) == 0 { return }
    guard errno == EADDRINUSE else { throw HostFailure(action) }
    // Somebody's, or left behind? A refused connection tells.
    let probe = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue), 0)
    defer { close(probe) }
    var status = stat()
    guard probe >= 0, lstat(path, &status) == 0, status.st_mode & S_IFMT == S_IFSOCK,
      address.apply(Glibc.connect, to: probe) != 0, errno == ECONNREFUSED,
      unlink(path) == 0, address.apply(Glibc.bind, to: descriptor) == 0
    else { throw HostFailure(action, code: EADDRINUSE) }
  }
}
