import Glibc
import Host
import TestSupport
import Testing

@Suite(.timeLimit(.minutes(1))) struct InputSourceTests {
  /// What came in, and whether the end was reported.
  struct Received: Sendable {
    var bytes: [UInt8] = []
    var ends = 0
  }

  @Test func pipeIsReadToItsEnd() throws {
    let loop = try EventLoop(name: "test")
    defer { loop.stop() }
    var ends: [Int32] = [0, 0]
    #expect(pipe(&ends) == 0)
    defer { close(ends[0]) }
    let received = Shared(Received())
    let source = InputSource(
      descriptor: ends[0], on: loop, receive: { bytes in received.change { $0.bytes += bytes } },
      end: { received.change { $0.ends += 1 } })
    source.start()
    _ = [1, 2, 3].withUnsafeBytes { write(ends[1], $0.baseAddress, 1) }
    #expect(received.wait { $0.bytes == [1] })
    close(ends[1])
    #expect(received.wait { $0.ends == 1 })
  }

  @Test(arguments: ["/dev/null", "/etc/hostname"]) func alwaysReadyFilesAreReadToTheirEnd(path: String) throws {
    let loop = try EventLoop(name: "test")
    defer { loop.stop() }
    let descriptor = open(path, O_RDONLY)
    defer { close(descriptor) }
    let received = Shared(Received())
    let source = InputSource(
      descriptor: descriptor, on: loop, receive: { bytes in received.change { $0.bytes += bytes } },
      end: { received.change { $0.ends += 1 } })
    source.start()
    #expect(received.wait { $0.ends == 1 })
    #expect(received.current.bytes.isEmpty == (path == "/dev/null"))
  }

  @Test func nothingIsLostWhilePaused() throws {
    let loop = try EventLoop(name: "test")
    defer { loop.stop() }
    let pipe = Pipe()
    let received = Shared(Received())
    let source = InputSource(
      descriptor: pipe.readEnd, on: loop, receive: { bytes in received.change { $0.bytes += bytes } }, end: {})
    source.start()
    source.pause()
    pipe.send([7, 8])
    usleep(20_000)
    #expect(received.current.bytes.isEmpty)
    source.resume()
    #expect(received.wait { $0.bytes == [7, 8] })
    source.stop()
  }
}
