import Glibc

/// A mutex and a condition that is waited for under it.
///
/// The fields that it guards stand after it in the object that owns it. Not recursive.
public final class Monitor: @unchecked Sendable {
  private let mutex: UnsafeMutablePointer<pthread_mutex_t>
  private let condition: UnsafeMutablePointer<pthread_cond_t>

  public init() {
    mutex = .allocate(capacity: 1)
    mutex.initialize(to: pthread_mutex_t())
    // It is held for moments only, so whoever waits looks again for a little while before sleeping.
    var kind = pthread_mutexattr_t()
    pthread_mutexattr_init(&kind)
    pthread_mutexattr_settype(&kind, Int32(PTHREAD_MUTEX_ADAPTIVE_NP))
    pthread_mutex_init(mutex, &kind)
    pthread_mutexattr_destroy(&kind)
    condition = .allocate(capacity: 1)
    condition.initialize(to: pthread_cond_t())
    var attributes = pthread_condattr_t()
    pthread_condattr_init(&attributes)
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC)
    pthread_cond_init(condition, &attributes)
    pthread_condattr_destroy(&attributes)
  }

  deinit {
    pthread_cond_destroy(condition)
    condition.deallocate()
    pthread_mutex_destroy(mutex)
    mutex.deallocate()
  }

  public func lock() { pthread_mutex_lock(mutex) }
  public func unlock() { pthread_mutex_unlock(mutex) }

  @inlinable public func withLock<Result, Failure>(_ body: () throws(Failure) -> Result) throws(Failure) -> Result {
    lock()
    defer { unlock() }
    return try body()
  }

  /// Releases the lock, sleeps until a broadcast (or for no reason at all), and takes the lock again.
  public func wait() { pthread_cond_wait(condition, mutex) }

  /// As `wait`, but not beyond `deadline` (`MonotonicTime`). False when the deadline has passed.
  public func wait(until deadline: UInt64) -> Bool {
    var time = timespec(
      tv_sec: Int(clamping: deadline / 1_000_000_000), tv_nsec: Int(truncatingIfNeeded: deadline % 1_000_000_000))
    return pthread_cond_timedwait(condition, mutex, &time) != ETIMEDOUT
  }

  /// Wakes one who waits: right only where all wait for the same.
  public func signal() { pthread_cond_signal(condition) }

  /// Wakes all who wait.
  public func broadcast() { pthread_cond_broadcast(condition) }
}
