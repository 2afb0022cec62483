import Devices
import Host

/// The wire between a guest's serial port and the host's end of it, for what comes in.
///
/// The port takes a few bytes at a time, so bytes wait here. When many do, the source is told to hold back.
final class SerialLine: @unchecked Sendable {
  private let port: Serial16550
  /// The machine lock; guards everything below, and the port.
  private let lock: Monitor
  private var waiting: [UInt8] = []
  private var next = 0
  private var isHeldBack = false
  /// Told true when the source is to hold back, false when it may go on. Under the machine lock.
  private var holdBack: ((Bool) -> Void)?

  private static let limit = 1 << 16

  init(port: Serial16550, lock: Monitor) {
    self.port = port
    self.lock = lock
    port.onReadyToReceive = { [weak self] in self?.deliver() }
  }

  /// Connects a source; an earlier one, and what it has left here, is forgotten.
  func connect(holdBack: @escaping @Sendable (Bool) -> Void) {
    lock.withLock {
      self.holdBack = holdBack
      waiting = []
      next = 0
      isHeldBack = false
    }
  }

  /// Bytes from the source. Any thread, not under the machine lock.
  func receive(_ bytes: [UInt8]) {
    lock.withLock {
      waiting += bytes
      deliver()
    }
  }

  /// The host can take output again after it refused some. Any thread, not under the machine lock.
  func resumeTransmission() {
    lock.withLock { port.resumeTransmission() }
  }

  /// Gives the port as much as it takes.
  private func deliver() {
    while next < waiting.count, port.canReceive {
      let count = min(port.receiveCapacity, waiting.count - next)
      let piece = Array(waiting[next..<(next + count)])
      next += count
      port.receive(piece)
    }
    if next == waiting.count {
      waiting.removeAll(keepingCapacity: true)
      next = 0
    }
    let isFull = waiting.count - next > Self.limit
    let isEmpty = waiting.isEmpty
    if isHeldBack ? isEmpty : isFull {
      isHeldBack = isFull
      holdBack?(isFull)
    }
  }
}
