import Glibc

/// The client's end of a connection to a socket in the file system.
final class SocketClient {
  private let descriptor: Int32

  /// Connects; tries for a while, since the program may not listen yet, or not have noticed that an earlier client left.
  init(path: String) throws {
    let deadline = ContinuousClock.now + .seconds(30)
    while true {
      let candidate = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
      if Self.connect(candidate, path) {
        descriptor = candidate
        return
      }
      let code = errno
      close(candidate)
      guard ContinuousClock.now < deadline else { throw HostCallFailure("connect \(path)", code: code) }
      usleep(5000)
    }
  }

  deinit { close(descriptor) }

  func send(_ text: String) {
    let bytes = Array(text.utf8)
    _ = write(descriptor, bytes, bytes.count)
  }

  /// Reads `count` bytes, or to the end.
  func receive(_ count: Int) -> String {
    var bytes: [UInt8] = []
    while bytes.count < count {
      var byte: UInt8 = 0
      guard read(descriptor, &byte, 1) == 1 else { break }
      bytes.append(byte)
    }
    return String(decoding: bytes, as: UTF8.self)
  }

  private static func connect(_ descriptor: Int32, _ path: String) -> Bool {
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: Array(path.utf8)) }
    return withUnsafePointer(to: &address) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        Glibc.connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size)) == 0
      }
    }
  }
}
