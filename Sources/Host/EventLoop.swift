import CHost
import Glibc

// The event loop is the one thread on which the host speaks to the machine: input arrives (terminal, sockets), timers
// expire, signals come in. It sleeps in epoll_wait(2) and calls the handlers of what became ready, one after another.
//
// Rules. A handler must not block for long: everything that may (writing to a terminal or a pipe whose reader sleeps) has
// a thread of its own, such as `BatchingWriter`. A handler may take the machine lock, which is held for microseconds;
// nobody may wait for the loop while holding the machine lock. Lock order: machine lock, then the loop's own `monitor`,
// which is never held while a handler runs.
//
// Watches are known to the kernel by a serial number rather than by their descriptor. So an event that was already
// fetched when its watch was cancelled, and its descriptor reused, finds nothing and is dropped.

/// A thread that waits for descriptors and calls handlers.
public final class EventLoop: @unchecked Sendable {
  private let poll: Int32
  private let wake: Int32

  private let monitor = Monitor()
  private var handlers: [UInt64: @Sendable (Readiness) -> Void] = [:]
  private var lastToken: UInt64 = 0
  private var pending: [@Sendable () -> Void] = []
  private var isStopping = false
  private var thread: HostThread?

  private static let wakeToken: UInt64 = 0

  /// Starts the loop's thread.
  public init(name: String) throws(HostFailure) {
    poll = epoll_create1(Int32(EPOLL_CLOEXEC))
    guard poll >= 0 else { throw HostFailure("create an event loop") }
    wake = eventfd(0, Int32(EFD_CLOEXEC | EFD_NONBLOCK))
    guard wake >= 0 else { throw HostFailure("create an event descriptor") }
    var event = epoll_event(events: Readiness.readable.rawValue, data: epoll_data_t(u64: Self.wakeToken))
    epoll_ctl(poll, EPOLL_CTL_ADD, wake, &event)
    // The thread keeps the loop alive until `stop`.
    let started = try HostThread.start(name) { self.run() }
    monitor.withLock { thread = started }
  }

  deinit {
    close(wake)
    close(poll)
  }

  /// Calls `handler` on the loop's thread whenever `descriptor` is ready, until the watch is cancelled or released. The
  /// caller keeps the descriptor open for that long.
  public func watch(
    _ descriptor: Int32, for interest: Readiness, _ handler: @escaping @Sendable (Readiness) -> Void
  ) throws(HostFailure) -> EventWatch {
    let token = monitor.withLock {
      lastToken += 1
      handlers[lastToken] = handler
      return lastToken
    }
    var event = epoll_event(events: interest.rawValue, data: epoll_data_t(u64: token))
    guard epoll_ctl(poll, EPOLL_CTL_ADD, descriptor, &event) == 0 else {
      let failure = HostFailure("watch descriptor \(descriptor)")
      monitor.withLock { handlers[token] = nil }
      throw failure
    }
    return EventWatch(loop: self, descriptor: descriptor, token: token)
  }

  /// Calls `work` on the loop's thread, soon.
  public func perform(_ work: @escaping @Sendable () -> Void) {
    monitor.withLock { pending.append(work) }
    signalWake()
  }

  /// Ends the loop; waits until the handler that is running, if any, has returned. Work that is still pending is dropped.
  public func stop() {
    let running = monitor.withLock {
      isStopping = true
      return thread
    }
    signalWake()
    guard let running, !running.isCurrent else { return }
    running.join()
  }

  fileprivate func change(_ descriptor: Int32, token: UInt64, interest: Readiness) {
    var event = epoll_event(events: interest.rawValue, data: epoll_data_t(u64: token))
    epoll_ctl(poll, EPOLL_CTL_MOD, descriptor, &event)
  }

  fileprivate func forget(_ descriptor: Int32, token: UInt64) {
    let known = monitor.withLock { handlers.removeValue(forKey: token) != nil }
    if known { epoll_ctl(poll, EPOLL_CTL_DEL, descriptor, nil) }
  }

  private func signalWake() {
    var one: UInt64 = 1
    // Fails only when the counter is full, and then the loop is awake anyway.
    _ = write(wake, &one, 8)
  }

  private func run() {
    hostShortenThreadSlice()
    let capacity = 32
    let events = UnsafeMutablePointer<epoll_event>.allocate(capacity: capacity)
    defer { events.deallocate() }
    while true {
      let count = epoll_wait(poll, events, Int32(capacity), -1)
      for index in 0..<max(0, Int(count)) {
        let token = events[index].data.u64
        if token == Self.wakeToken {
          var counter: UInt64 = 0
          _ = read(wake, &counter, 8)
        } else if let handler = monitor.withLock({ handlers[token] }) {
          handler(Readiness(rawValue: events[index].events))
        }
      }
      let (work, ends) = monitor.withLock {
        defer { pending.removeAll() }
        return (pending, isStopping)
      }
      if ends { break }
      for item in work { item() }
    }
    // Handlers hold their owners: let go of them here.
    monitor.withLock { handlers.removeAll() }
  }
}

/// What a descriptor is ready for; bits of epoll(7).
public struct Readiness: OptionSet, Sendable {
  public let rawValue: UInt32
  public init(rawValue: UInt32) { self.rawValue = rawValue }
  public static let readable = Readiness(rawValue: 0x1)
  public static let writable = Readiness(rawValue: 0x4)
  /// Always reported, wanted or not.
  public static let failed = Readiness(rawValue: 0x8)
  /// The other end is gone. Always reported.
  public static let hungUp = Readiness(rawValue: 0x10)
}

/// A descriptor under watch; releasing it ends the watch.
public final class EventWatch: Sendable {
  private let loop: EventLoop
  private let descriptor: Int32
  private let token: UInt64

  fileprivate init(loop: EventLoop, descriptor: Int32, token: UInt64) {
    self.loop = loop
    self.descriptor = descriptor
    self.token = token
  }

  deinit { cancel() }

  /// Changes what is waited for; nothing at all pauses the watch, except for `failed` and `hungUp`.
  public func setInterest(_ interest: Readiness) { loop.change(descriptor, token: token, interest: interest) }

  /// Ends the watch. From another thread than the loop's, the handler may be in its last call when this returns.
  public func cancel() { loop.forget(descriptor, token: token) }
}
