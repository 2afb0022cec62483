import Devices
import Host
import Machine

/// The wire between a guest's serial port, or console, and the host's end of it, for what comes in.
///
/// The port takes a few bytes at a time, so bytes wait here; when many do, the source is told to hold back. They also wait
/// until the guest listens, and a moment longer: a driver that starts throws away what is there already, and would
/// swallow the beginning of what was typed, or came out of a pipe, while the guest was still booting.
final class SerialLine: @unchecked Sendable {
  private let port: any CharacterPort
  private let clock: HostClock
  /// The machine lock; guards everything below, and the port.
  private let lock: Monitor
  private var waiting: [UInt8] = []
  private var next = 0
  private var isHeldBack = false
  /// Told true when the source is to hold back, false when it may go on. Under the machine lock.
  private var holdBack: ((Bool) -> Void)?
  /// Ends the moment after the guest has begun to listen.
  private var settling: (any ClockTimer)?

  private static let limit = 1 << 16
  /// Guest nanoseconds from the first sign of listening to the first byte: Linux enables the interrupt and empties the
  /// FIFO in one breath, in this order.
  private static let settlingTime: UInt64 = 5_000_000

  init(port: any CharacterPort, machine: VirtualMachine) {
    self.port = port
    clock = machine.clock
    lock = machine.lock
    settling = clock.makeTimer("serial input") { [weak self] in self?.deliver() }
    port.onReadyToReceive = { [weak self] in self?.deliver() }
    port.onListening = { [weak self] in
      guard let self else { return }
      settling?.arm(at: clock.now &+ Self.settlingTime)
    }
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
    if port.isListening, settling?.deadline == nil { fillPort() }
    if next == waiting.count {
      waiting.removeAll(keepingCapacity: true)
      next = 0
    }
    let isFull = waiting.count - next > Self.limit
    if isHeldBack ? waiting.isEmpty : isFull {
      isHeldBack = isFull
      holdBack?(isFull)
    }
  }

  private func fillPort() {
    while next < waiting.count, port.canReceive {
      let count = min(port.receiveCapacity, waiting.count - next)
      let piece = Array(waiting[next..<(next + count)])
      next += count
      port.receive(piece)
    }
  }
}
