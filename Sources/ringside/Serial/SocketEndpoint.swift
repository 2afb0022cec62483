import Glibc
import Host

/// A serial line behind a socket in the file system. One client at a time; without one, output is lost, as on a line with
/// nothing plugged in. The guest does not wait for a client.
final class SocketEndpoint: SerialEndpoint, @unchecked Sendable {
  /// A client and what serves it.
  private struct Connection {
    var descriptor: Int32
    var source: InputSource
    var writer: BatchingWriter
  }

  private let loop: EventLoop
  private let path: String
  private var listener: UnixSocketListener?
  /// Guards everything below.
  private let monitor = Monitor()
  private var line: SerialLine?
  private var connection: Connection?

  init(path: String, loop: EventLoop) throws(HostFailure) {
    self.loop = loop
    self.path = path
    listener = try UnixSocketListener(path: path, on: loop) { [weak self] descriptor in
      if let self { accept(descriptor) } else { close(descriptor) }
    }
  }

  func start(_ line: SerialLine) { monitor.withLock { self.line = line } }

  /// The event loop's thread.
  private func accept(_ descriptor: Int32) {
    guard let line = monitor.withLock({ connection == nil ? line : nil }) else {
      close(descriptor)
      return
    }
    let source = InputSource(
      descriptor: descriptor, on: loop, receive: { line.receive($0) }, end: { [weak self] in self?.disconnect() })
    do throws(HostFailure) {
      let writer = try BatchingWriter(
        descriptor: descriptor, name: "'\(path)'", onRoom: { line.resumeTransmission() },
        // Not on the writer's own thread, which `disconnect` ends.
        onFailure: { [weak self, loop] _ in loop.perform { [weak self] in self?.disconnect() } })
      line.connect { [weak source] in if $0 { source?.pause() } else { source?.resume() } }
      monitor.withLock { connection = Connection(descriptor: descriptor, source: source, writer: writer) }
      source.start()
    } catch {
      close(descriptor)
    }
  }

  /// The event loop's thread.
  private func disconnect() {
    guard let old = monitor.withLock({ connection.take() }) else { return }
    old.source.stop()
    // Unblocks a write that waits for the client, before the descriptor's number can be used again.
    shutdown(old.descriptor, Int32(SHUT_RDWR))
    _ = try? old.writer.finish(patience: 100_000_000)
    close(old.descriptor)
    // What the guest could not send to the old client goes nowhere.
    monitor.withLock { line }?.resumeTransmission()
  }

  func send(_ bytes: [UInt8]) -> Int { monitor.withLock { connection?.writer }?.offer(bytes) ?? bytes.count }
  func flush() { monitor.withLock { connection?.writer }?.flush() }

  func finish(patience: UInt64?) throws(HostFailure) {
    // A client that went away, or does not read, is none of the guest's business.
    _ = try? monitor.withLock { connection?.writer }?.finish(patience: min(patience ?? .max, 1_000_000_000))
    listener = nil
  }

  func abandon() { monitor.withLock { connection?.writer }?.abandon() }
}
