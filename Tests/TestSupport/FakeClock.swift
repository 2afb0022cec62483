import Machine

/// A clock that stands still until a test moves it.
///
/// `advance(by:)` fires the timers that fall due on the way, in the order of their deadlines (those with equal deadlines in
/// the order in which they were made), each with `now` at its own deadline. Timers live as long as their device holds them.
public final class FakeClock: Clock {
  public private(set) var now: UInt64
  public let timeStampFrequency: UInt64
  private var timers: [WeakTimer] = []

  /// - Parameters:
  ///   - now: nanoseconds.
  ///   - timeStampFrequency: Hz; the default makes one tick of the time-stamp counter half a nanosecond.
  public init(now: UInt64 = 0, timeStampFrequency: UInt64 = 2_000_000_000) {
    self.now = now
    self.timeStampFrequency = timeStampFrequency
  }

  public var timeStamp: UInt64 {
    let product = now.multipliedFullWidth(by: timeStampFrequency)
    return UInt64(1_000_000_000).dividingFullWidth((product.high % 1_000_000_000, product.low)).quotient
  }

  public func makeTimer(_ name: String, fire: @escaping () -> Void) -> any ClockTimer {
    let timer = FakeTimer(name: name, fire: fire)
    timers.removeAll { $0.timer == nil }
    timers.append(WeakTimer(timer: timer))
    return timer
  }

  /// Moves time forward by `nanoseconds`, firing what falls due.
  public func advance(by nanoseconds: UInt64) {
    advance(to: now + nanoseconds)
  }

  /// Moves time forward to `target`, firing what falls due. A target in the past fires what is overdue.
  public func advance(to target: UInt64) {
    var fired = 0
    while let timer = nextTimer(until: max(target, now)), let deadline = timer.deadline {
      now = max(now, deadline)
      timer.deadline = nil
      timer.fire()
      fired += 1
      precondition(fired < 50_000_000, "the timer \(timer.name) does not stop firing")
    }
    now = max(now, target)
  }

  /// The host was busy: time passes and no timer fires until the next `advance`.
  public func stall(for nanoseconds: UInt64) {
    now += nanoseconds
  }

  /// The earliest deadline of all timers, nil where none is armed.
  public var nextDeadline: UInt64? {
    timers.compactMap { $0.timer?.deadline }.min()
  }

  private func nextTimer(until limit: UInt64) -> FakeTimer? {
    var best: FakeTimer?
    for case let timer? in timers.lazy.map(\.timer) {
      guard let deadline = timer.deadline, deadline <= limit else { continue }
      if let other = best?.deadline, other <= deadline { continue }
      best = timer
    }
    return best
  }

  private struct WeakTimer {
    weak var timer: FakeTimer?
  }
}

private final class FakeTimer: ClockTimer {
  let name: String
  let fire: () -> Void
  var deadline: UInt64?

  init(name: String, fire: @escaping () -> Void) {
    self.name = name
    self.fire = fire
  }

  func arm(at deadline: UInt64) { self.deadline = deadline }
  func cancel() { deadline = nil }
}
