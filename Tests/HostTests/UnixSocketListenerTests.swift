import Glibc
import Host
import TestSupport
import Testing

@Suite(.timeLimit(.minutes(1))) struct UnixSocketListenerTests {
  private func temporaryPath(_ name: String) -> String { "/tmp/ringside-test-\(getpid())-\(name)" }

  private func connect(_ path: String) -> Int32 {
    let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: Array(path.utf8)) }
    let result = withUnsafePointer(to: &address) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        Glibc.connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
      }
    }
    guard result == 0 else {
      close(descriptor)
      return -1
    }
    return descriptor
  }

  @Test func connectionsAreAccepted() throws {
    let loop = try EventLoop(name: "test")
    defer { loop.stop() }
    let path = temporaryPath("accept")
    let accepted = Shared<[Int32]>([])
    var listener: UnixSocketListener? = try UnixSocketListener(path: path, on: loop) { connection in
      accepted.change { $0.append(connection) }
    }
    #expect(listener != nil)
    let client = connect(path)
    #expect(client >= 0)
    #expect(accepted.wait { $0.count == 1 })
    for descriptor in accepted.current + [client] { close(descriptor) }
    listener = nil
    #expect(access(path, F_OK) != 0)
  }

  @Test func socketInUseIsRefusedAndALeftOneReplaced() throws {
    let loop = try EventLoop(name: "test")
    defer { loop.stop() }
    let path = temporaryPath("left")
    let first = try UnixSocketListener(path: path, on: loop) { close($0) }
    #expect(throws: HostFailure("listen at '\(path)'", code: EADDRINUSE)) {
      _ = try UnixSocketListener(path: path, on: loop) { close($0) }
    }
    #expect(access(path, F_OK) == 0)
    withExtendedLifetime(first) {}
  }

  @Test func otherFilesAndLongPathsAreRefused() throws {
    let loop = try EventLoop(name: "test")
    defer { loop.stop() }
    let path = temporaryPath("file")
    close(open(path, O_CREAT | O_WRONLY, 0o600))
    defer { unlink(path) }
    #expect(throws: HostFailure("listen at '\(path)'", code: EADDRINUSE)) {
      _ = try UnixSocketListener(path: path, on: loop) { close($0) }
    }
    #expect(access(path, F_OK) == 0)
    let long = "/tmp/" + String(repeating: "x", count: 200)
    #expect(throws: HostFailure("listen at '\(long)'", code: ENAMETOOLONG)) {
      _ = try UnixSocketListener(path: long, on: loop) { close($0) }
    }
  }
}
