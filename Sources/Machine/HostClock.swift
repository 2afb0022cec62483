import CHost
import Host

/// Guest time from the host's monotonic clock, minus the time that the machine was paused.
///
/// The guest's time-stamp counter is the host's plus an offset that starts it at zero and takes pauses out, so engines
/// may let a guest read it without an exit. Timers wait in a small array; the nearest deadline stands in one host timer,
/// whose expiry the event loop's thread brings here, under the machine lock. A timer that moves away from the present
/// leaves the host timer as it is (it then wakes for nothing, once): most of a guest's timers are moved before they
/// run out, and this way that costs no system call.
///
/// Used under the machine lock.
public final class HostClock: Clock {
  public let timeStampFrequency: UInt64
  /// Guest time-stamp counter = host's plus this; changes with each pause.
  public private(set) var timeStampOffset: UInt64
  public private(set) var isRunning = false

  private let lock: Monitor
  private let ownReference = BackReference<HostClock>()
  private var hostTimer: HostTimer?
  /// The host's time at guest time zero, as if the machine had never been paused.
  private var origin: UInt64 = 0
  private var frozenTime: UInt64 = 0
  private var frozenStamp: UInt64 = 0
  private var armed: [HostClockTimer] = []
  /// Guest time for which the host timer is set; `.max`: not set.
  private var programmed = UInt64.max

  /// A stopped clock at zero; `lock` is the machine lock.
  public init(loop: EventLoop, lock: Monitor, frequency: TimeStampFrequency) throws(HostFailure) {
    self.lock = lock
    timeStampFrequency = frequency.hertz
    timeStampOffset = 0
    hostTimer = try HostTimer(on: loop) { [ownReference, lock] in
      lock.withLock { ownReference.whole?.expired() }
    }
    ownReference.whole = self
  }

  deinit {
    lock.withLock { ownReference.whole = nil }
  }

  public var now: UInt64 { isRunning ? MonotonicTime.now &- origin : frozenTime }

  public var timeStamp: UInt64 { isRunning ? hostTimeStamp() &+ timeStampOffset : frozenStamp }

  public func makeTimer(_ name: String, fire: @escaping () -> Void) -> any ClockTimer {
    HostClockTimer(clock: self, name: name, fire: fire)
  }

  /// Lets time run (again).
  public func start() {
    guard !isRunning else { return }
    origin = MonotonicTime.now &- frozenTime
    timeStampOffset = frozenStamp &- hostTimeStamp()
    isRunning = true
    program()
  }

  /// What a stopped clock shows from now on: nanoseconds, and the guest's time-stamp counter.
  func set(now: UInt64, timeStamp: UInt64) {
    precondition(!isRunning, "a clock is set while it stands still")
    frozenTime = now
    frozenStamp = timeStamp
  }

  /// Stops time. Nothing fires until `start`.
  public func pause() {
    guard isRunning else { return }
    frozenTime = now
    frozenStamp = timeStamp
    isRunning = false
    programmed = .max
    hostTimer?.disarm()
  }

  fileprivate func arm(_ timer: HostClockTimer) {
    if !armed.contains(where: { $0 === timer }) { armed.append(timer) }
    guard isRunning, let deadline = timer.deadline, deadline < programmed else { return }
    setHostTimer(deadline)
  }

  fileprivate func disarm(_ timer: HostClockTimer) {
    armed.removeAll { $0 === timer }
  }

  /// The host timer ran out. On the event loop's thread, under the machine lock.
  private func expired() {
    guard isRunning else { return }
    let now = now
    // Those that were due on entry, earliest first, each once: a timer that arms itself in the past must not keep the
    // lock for ever.
    let due = armed.filter { $0.deadline.map { $0 <= now } ?? false }
    for timer in due.sorted(by: { ($0.deadline ?? 0) < ($1.deadline ?? 0) }) {
      // Fired timers may cancel or move others.
      guard let deadline = timer.deadline, deadline <= now, armed.contains(where: { $0 === timer }) else { continue }
      timer.expire()
    }
    program()
  }

  private func program() {
    programmed = .max
    guard isRunning, let next = armed.lazy.compactMap(\.deadline).min() else { return }
    setHostTimer(next)
  }

  private func setHostTimer(_ deadline: UInt64) {
    programmed = deadline
    let (time, overflow) = origin.addingReportingOverflow(deadline)
    hostTimer?.arm(at: overflow ? .max : time)
  }
}

/// A timer of a `HostClock`.
private final class HostClockTimer: ClockTimer, CustomStringConvertible {
  private unowned let clock: HostClock
  private let name: String
  private let fire: () -> Void
  private(set) var deadline: UInt64?

  init(clock: HostClock, name: String, fire: @escaping () -> Void) {
    self.clock = clock
    self.name = name
    self.fire = fire
  }

  var description: String { "\(name): \(deadline.map { "\($0) ns" } ?? "idle")" }

  func arm(at deadline: UInt64) {
    self.deadline = deadline
    clock.arm(self)
  }

  func cancel() {
    guard deadline != nil else { return }
    deadline = nil
    clock.disarm(self)
  }

  func expire() {
    cancel()
    fire()
  }
}
