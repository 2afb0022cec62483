import Glibc

/// Bytes that come in through a descriptor of any kind: terminal, pipe, socket, regular file, `/dev/null`.
///
/// Handlers are called on the loop's thread.
public final class InputSource: @unchecked Sendable {
  private let descriptor: Int32
  private let loop: EventLoop
  private let receive: @Sendable ([UInt8]) -> Void
  private let end: @Sendable () -> Void

  /// Guards everything below.
  private let monitor = Monitor()
  private var watch: EventWatch?
  private var isPaused = false
  private var hasEnded = false
  /// epoll(7) refuses regular files and such: they are always ready, and read a piece at a time as work of the loop.
  private var isAlwaysReady = false

  private static let pieceSize = 4096

  /// `end` is called once, at the end of the input or when it fails.
  public init(
    descriptor: Int32, on loop: EventLoop, receive: @escaping @Sendable ([UInt8]) -> Void,
    end: @escaping @Sendable () -> Void
  ) {
    self.descriptor = descriptor
    self.loop = loop
    self.receive = receive
    self.end = end
  }

  /// Begins to read. The source is kept alive until its input ends or it is stopped.
  public func start() {
    do throws(HostFailure) {
      let started = try loop.watch(descriptor, for: .readable) { _ in self.readPiece() }
      monitor.withLock { watch = started }
    } catch {
      monitor.withLock { isAlwaysReady = true }
      loop.perform { self.readPiece() }
    }
  }

  /// Leaves further input where it is, until `resume`. A piece that is being read is still delivered.
  public func pause() {
    monitor.withLock {
      guard !isPaused, !hasEnded else { return }
      isPaused = true
      watch?.setInterest([])
    }
  }

  public func resume() {
    let readsOn = monitor.withLock {
      guard isPaused, !hasEnded else { return false }
      isPaused = false
      watch?.setInterest(.readable)
      return isAlwaysReady
    }
    if readsOn { loop.perform { self.readPiece() } }
  }

  /// Reads no more; `end` is not called.
  public func stop() {
    monitor.withLock {
      hasEnded = true
      watch?.cancel()
      watch = nil
    }
  }

  private func readPiece() {
    guard monitor.withLock({ !hasEnded && !(isPaused && isAlwaysReady) }) else { return }
    var code: Int32 = 0
    let piece = [UInt8](unsafeUninitializedCapacity: Self.pieceSize) { buffer, count in
      let got = read(descriptor, buffer.baseAddress, buffer.count)
      code = got < 0 ? errno : 0
      count = max(0, got)
    }
    if code == EINTR || code == EAGAIN { return }
    guard !piece.isEmpty else {
      stop()
      return end()
    }
    receive(piece)
    if monitor.withLock({ isAlwaysReady && !isPaused }) { loop.perform { self.readPiece() } }
  }
}
