import Host

/// Lets a few messages a second through, however many a guest can cause.
struct RateLimiter {
  private let perSecond: Int
  private var window: UInt64 = 0
  private var passed = 0
  private var held: UInt64 = 0

  init(perSecond: Int) { self.perSecond = perSecond }

  /// Nil: say nothing now. Otherwise how many were kept back since the last one that passed.
  mutating func pass() -> UInt64? {
    let second = MonotonicTime.now / 1_000_000_000
    if second != window {
      window = second
      passed = 0
    }
    guard passed < perSecond else {
      held &+= 1
      return nil
    }
    passed += 1
    defer { held = 0 }
    return held
  }
}
