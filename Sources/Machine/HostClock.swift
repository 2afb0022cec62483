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
/// A processor that has nothing to do waits for its own timers itself, if they run out soon (`entrust`, `takeBack`): a
/// guest that ticks would otherwise wake two threads for each tick, the event loop's and the processor's.
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
  /// How often timers were let run out.
  private var round: UInt64 = 0

  /// A processor waits for its timers itself if it has to sleep less than this (nanoseconds). Longer sleeps mostly end by
  /// something else, and then the timers would have to be given back.
  private static let longestEntrusted: UInt64 = 20_000_000

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
    HostClockTimer(clock: self, name: name, processor: nil, fire: fire)
  }

  public func makeTimer(_ name: String, processor: Int, fire: @escaping () -> Void) -> any ClockTimer {
    HostClockTimer(clock: self, name: name, processor: processor, fire: fire)
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
    setHostTimer(.max)
  }

  /// Processor `processor` is about to sleep. Returns the time (`MonotonicTime`) at which it must be awake for its timers,
  /// and then `takeBack` is to be called, as it is after an earlier end of the sleep; until then nobody else wakes it for
  /// them, unless they move forward. `.max`: nothing was entrusted.
  public func entrust(to processor: Int) -> UInt64 {
    guard isRunning else { return .max }
    var earliest = UInt64.max
    for timer in armed where timer.processor == processor { earliest = min(earliest, timer.deadline ?? .max) }
    guard earliest != .max, earliest < now &+ Self.longestEntrusted else { return .max }
    for timer in armed where timer.processor == processor { timer.entrusted = earliest }
    if programmed >= earliest { program() }
    return hostTime(earliest)
  }

  /// The processor is awake again: lets its timers run out that are due.
  public func takeBack(from processor: Int) {
    var earliest = UInt64.max
    for timer in armed where timer.processor == processor {
      timer.entrusted = .max
      earliest = min(earliest, timer.deadline ?? .max)
    }
    guard isRunning, earliest != .max else { return }
    if earliest <= now {
      fireDue()
      program()
    } else if earliest < programmed {
      setHostTimer(earliest)
    }
  }

  fileprivate func arm(_ timer: HostClockTimer) {
    if !armed.contains(where: { $0 === timer }) { armed.append(timer) }
    guard isRunning, let deadline = timer.deadline, !timer.isEntrusted, deadline < programmed else { return }
    setHostTimer(deadline)
  }

  fileprivate func disarm(_ timer: HostClockTimer) {
    armed.removeAll { $0 === timer }
  }

  /// The host timer ran out. On the event loop's thread, under the machine lock.
  private func expired() {
    guard isRunning else { return }
    programmed = .max
    fireDue()
    program()
  }

  /// Lets those run out that are due now, earliest first, each once: a timer that arms itself in the past must not keep
  /// the lock for ever.
  private func fireDue() {
    let now = now
    round &+= 1
    while let timer = earliestDue(by: now) {
      timer.round = round
      timer.expire()
    }
  }

  /// Looked up anew each time, since timers that run out may cancel or move others.
  private func earliestDue(by now: UInt64) -> HostClockTimer? {
    var earliest: HostClockTimer?
    var limit = now
    for timer in armed where timer.round != round {
      guard let deadline = timer.deadline, deadline < limit || deadline == limit && earliest == nil else { continue }
      earliest = timer
      limit = deadline
    }
    return earliest
  }

  /// Sets the host timer for the first of those that nobody else waits for.
  private func program() {
    guard isRunning else { return }
    var next = UInt64.max
    for timer in armed where !timer.isEntrusted { next = min(next, timer.deadline ?? .max) }
    if next != programmed { setHostTimer(next) }
  }

  private func setHostTimer(_ deadline: UInt64) {
    programmed = deadline
    if deadline == .max { hostTimer?.disarm() } else { hostTimer?.arm(at: hostTime(deadline)) }
  }

  private func hostTime(_ time: UInt64) -> UInt64 {
    let (result, overflow) = origin.addingReportingOverflow(time)
    return overflow ? .max : result
  }
}

/// A timer of a `HostClock`.
private final class HostClockTimer: ClockTimer, CustomStringConvertible {
  private unowned let clock: HostClock
  private let name: String
  /// The virtual processor that it is part of.
  let processor: Int?
  private let fire: () -> Void
  private(set) var deadline: UInt64?
  /// Guest time at which the processor, which sleeps, wakes for its timers; `.max`: it does not.
  var entrusted = UInt64.max
  /// When it ran out last: the clock's count of rounds.
  var round: UInt64 = 0

  init(clock: HostClock, name: String, processor: Int?, fire: @escaping () -> Void) {
    self.clock = clock
    self.name = name
    self.processor = processor
    self.fire = fire
  }

  /// Whether its processor waits for it.
  var isEntrusted: Bool { deadline.map { $0 >= entrusted } ?? false }

  var description: String { "\(name): \(deadline.map { "\($0) ns" } ?? "idle")" }

  func arm(at deadline: UInt64) {
    self.deadline = deadline
    clock.arm(self)
  }

  func cancel() {
    guard deadline != nil else { return }
    deadline = nil
    entrusted = .max
    clock.disarm(self)
  }

  func expire() {
    cancel()
    fire()
  }
}
