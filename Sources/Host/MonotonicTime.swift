import Glibc

/// The host's monotonic clock, the time base of timers and deadlines here.
public enum MonotonicTime {
  /// Nanoseconds since some moment before this process started.
  public static var now: UInt64 {
    var time = timespec()
    clock_gettime(CLOCK_MONOTONIC, &time)
    return UInt64(truncatingIfNeeded: time.tv_sec) &* 1_000_000_000 &+ UInt64(truncatingIfNeeded: time.tv_nsec)
  }
}
