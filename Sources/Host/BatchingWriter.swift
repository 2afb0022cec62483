import CHost
import Glibc

// Output of a guest's console, a byte at a time, becomes few and large writes here.
//
// The first byte that finds the writer idle wakes its thread, which then waits a moment (`gatheringTime`) for more, so a
// busy guest costs one wake-up and one write(2) for many bytes; `flush`, called when the guest goes idle, ends that
// moment. So a prompt appears at once and a flood flows in blocks. The thread may block in write(2) for as long as the
// reader likes; whoever offers bytes never does: when `limit` bytes wait, no more are taken until half of them are gone.

/// A thread that writes to a descriptor what others append.
public final class BatchingWriter: @unchecked Sendable {
  private let descriptor: Int32
  private let name: String
  private let limit: Int
  private let onRoom: @Sendable () -> Void
  private let onFailure: @Sendable (HostFailure) -> Void

  /// Guards everything below.
  private let monitor = Monitor()
  private var waiting: [UInt8] = []
  private var isWriting = false
  private var flushIsWanted = false
  private var hasRefused = false
  private var state = State.open
  private var written: UInt64 = 0
  private var failure: HostFailure?

  private enum State {
    case open
    /// Writes what waits, then ends.
    case finishing
    /// Drops everything: the descriptor failed, or nobody cares any more.
    case closed
  }

  private static let gatheringTime: UInt64 = 2_000_000
  private static let batch = 4096

  /// Starts writing to `descriptor`, which stays the caller's. `name` is used in messages: "standard output".
  ///
  /// Both handlers are called on the writer's thread: `onRoom` when bytes were refused and there is room again;
  /// `onFailure` once, when a write fails. After that, bytes are taken and dropped.
  public init(
    descriptor: Int32, name: String, limit: Int = 256 << 10, onRoom: @escaping @Sendable () -> Void,
    onFailure: @escaping @Sendable (HostFailure) -> Void
  ) throws(HostFailure) {
    self.descriptor = descriptor
    self.name = name
    self.limit = limit
    self.onRoom = onRoom
    self.onFailure = onFailure
    waiting.reserveCapacity(Self.batch)
    // The thread keeps the writer alive until `finish` or `abandon`.
    _ = try HostThread.start("output") { self.run() }
  }

  /// Takes as many of `bytes`, from the front, as there is room for, and returns how many. Does not wait.
  public func offer(_ bytes: [UInt8]) -> Int {
    monitor.lock()
    defer { monitor.unlock() }
    guard state == .open else { return bytes.count }
    let before = waiting.count
    let taken = min(bytes.count, limit - before)
    if taken == bytes.count { waiting.append(contentsOf: bytes) } else { waiting.append(contentsOf: bytes[..<taken]) }
    if taken < bytes.count { hasRefused = true }
    if before == 0 || (before < Self.batch && waiting.count >= Self.batch) { monitor.broadcast() }
    return taken
  }

  /// Nothing more is expected soon: write now.
  public func flush() {
    monitor.lock()
    if !waiting.isEmpty, !flushIsWanted {
      flushIsWanted = true
      monitor.broadcast()
    }
    monitor.unlock()
  }

  /// Bytes that wait to be written.
  public var backlog: Int { monitor.withLock { waiting.count } }

  /// Writes what waits and ends the thread. Gives up when nothing could be written for `patience` nanoseconds; nil waits
  /// for as long as it takes, or until `abandon`. Returns whether all was written; throws if a write has failed, now or
  /// earlier.
  @discardableResult public func finish(patience: UInt64?) throws(HostFailure) -> Bool {
    monitor.lock()
    defer { monitor.unlock() }
    if state == .open { state = .finishing }
    monitor.broadcast()
    var progress = written
    var deadline = MonotonicTime.now &+ (patience ?? 0)
    while state == .finishing {
      guard let patience else {
        monitor.wait()
        continue
      }
      if progress != written {
        progress = written
        deadline = MonotonicTime.now &+ patience
      }
      if !monitor.wait(until: deadline), progress == written { break }
    }
    if let failure { throw failure }
    let isDone = waiting.isEmpty && !isWriting
    state = .closed
    waiting.removeAll()
    monitor.broadcast()
    return isDone
  }

  /// Drops what waits. A write that the kernel holds up stays behind with its thread.
  public func abandon() {
    monitor.withLock {
      state = .closed
      waiting.removeAll()
      monitor.broadcast()
    }
  }

  private func run() {
    var block: [UInt8] = []
    block.reserveCapacity(Self.batch)
    while take(&block) {
      let failure = writeAll(block)
      monitor.lock()
      isWriting = false
      if let failure, state != .closed {
        self.failure = failure
        state = .closed
        waiting.removeAll()
        monitor.broadcast()
        monitor.unlock()
        onFailure(failure)
        return
      }
      let hasRoom = hasRefused && waiting.count <= limit / 2
      if hasRoom { hasRefused = false }
      monitor.broadcast()
      monitor.unlock()
      if hasRoom { onRoom() }
      block.removeAll(keepingCapacity: true)
    }
  }

  /// Waits for something to write and swaps it into `block`. False when the thread is to end.
  private func take(_ block: inout [UInt8]) -> Bool {
    monitor.lock()
    defer { monitor.unlock() }
    while waiting.isEmpty {
      switch state {
      case .open: monitor.wait()
      case .finishing, .closed:
        state = .closed
        monitor.broadcast()
        return false
      }
    }
    let deadline = MonotonicTime.now &+ Self.gatheringTime
    while state == .open, !flushIsWanted, waiting.count < Self.batch {
      if !monitor.wait(until: deadline) { break }
    }
    flushIsWanted = false
    swap(&waiting, &block)
    isWriting = true
    return true
  }

  private func writeAll(_ block: [UInt8]) -> HostFailure? {
    var next = 0
    while next < block.count {
      let count = block.withUnsafeBytes { write(descriptor, $0.baseAddress! + next, $0.count - next) }
      if count > 0 {
        next += count
        let isClosed = monitor.withLock {
          written &+= UInt64(count)
          monitor.broadcast()
          return state == .closed
        }
        // Nobody waits for the rest, and the descriptor may be somebody else's by now.
        if isClosed { return nil }
      } else if count == 0 || errno == EAGAIN {
        // Somebody has made the descriptor non-blocking.
        var wanted = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
        poll(&wanted, 1, -1)
      } else if errno != EINTR {
        return HostFailure("write to \(name)")
      }
    }
    return nil
  }
}
