import CHost
import Glibc

// Output of a guest's console, a byte at a time, becomes few and large writes here.
//
// The first byte that finds the writer idle wakes its thread, which then waits a moment (`gatheringTime`) for more, so a
// busy guest costs one wake-up and one write(2) for many bytes; `flush`, called when the guest goes idle, ends that
// moment. So a prompt appears at once and a flood flows in blocks. The thread may block in write(2) for as long as the
// reader likes: the guest goes on until `limit` bytes wait, and then waits too.

/// A thread that writes to a descriptor what others append.
public final class BatchingWriter: @unchecked Sendable {
  private let descriptor: Int32
  private let name: String
  private let limit: Int
  private let onFailure: @Sendable (HostFailure) -> Void

  /// Guards everything below.
  private let monitor = Monitor()
  private var waiting: [UInt8] = []
  private var isWriting = false
  private var flushIsWanted = false
  private var state = State.open
  private var written: UInt64 = 0

  private enum State {
    case open
    /// Writes what waits, then ends.
    case finishing
    /// Drops everything: the descriptor failed, or nobody cares any more.
    case closed
  }

  private static let gatheringTime: UInt64 = 500_000
  private static let batch = 4096

  /// Starts writing to `descriptor`, which stays the caller's. `name` is used in messages: "standard output".
  /// `onFailure` is called once, on the writer's thread, when a write fails; later bytes are dropped.
  public init(
    descriptor: Int32, name: String, limit: Int = 1 << 20, onFailure: @escaping @Sendable (HostFailure) -> Void
  ) throws(HostFailure) {
    self.descriptor = descriptor
    self.name = name
    self.limit = limit
    self.onFailure = onFailure
    waiting.reserveCapacity(Self.batch)
    // The thread keeps the writer alive until `finish` or `abandon`.
    _ = try HostThread.start("output") { self.run() }
  }

  /// Waits while `limit` bytes are in the queue.
  public func append(_ byte: UInt8) {
    monitor.lock()
    if waiting.count >= limit { waitForRoom() }
    let wakes = waiting.isEmpty || waiting.count + 1 == Self.batch
    if state == .open {
      waiting.append(byte)
      if wakes { monitor.broadcast() }
    }
    monitor.unlock()
  }

  public func append(_ bytes: some Sequence<UInt8>) {
    for byte in bytes { append(byte) }
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
  /// for as long as it takes, or until `abandon`. Returns whether all was written.
  @discardableResult public func finish(patience: UInt64?) -> Bool {
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
    let isDone = waiting.isEmpty && !isWriting
    state = .closed
    monitor.broadcast()
    return isDone
  }

  /// Drops what waits and lets everybody go who waits for room. A write that the kernel holds up stays behind.
  public func abandon() {
    monitor.withLock {
      state = .closed
      waiting.removeAll()
      monitor.broadcast()
    }
  }

  private func waitForRoom() {
    while waiting.count >= limit, state == .open { monitor.wait() }
  }

  private func run() {
    var block: [UInt8] = []
    block.reserveCapacity(Self.batch)
    while take(&block) {
      let failure = writeAll(block)
      monitor.lock()
      isWriting = false
      if let failure, state != .closed {
        state = .closed
        waiting.removeAll()
        monitor.broadcast()
        monitor.unlock()
        onFailure(failure)
        return
      }
      monitor.broadcast()
      monitor.unlock()
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
        monitor.withLock {
          written &+= UInt64(count)
          monitor.broadcast()
        }
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
