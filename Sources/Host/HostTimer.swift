import CHost
import Glibc

/// A timer of the host whose expiry is handled on an event loop's thread.
public final class HostTimer: @unchecked Sendable {
  private let descriptor: Int32
  private var watch: EventWatch?

  /// `handler` is called once for each time that the timer was armed and ran out.
  public init(on loop: EventLoop, _ handler: @escaping @Sendable () -> Void) throws(HostFailure) {
    descriptor = timerfd_create(CLOCK_MONOTONIC, Int32(TFD_CLOEXEC | TFD_NONBLOCK))
    guard descriptor >= 0 else { throw HostFailure("create a timer") }
    let timer = descriptor
    watch = try loop.watch(descriptor, for: .readable) { _ in
      var expirations: UInt64 = 0
      // Nothing to read: armed anew since it ran out.
      guard read(timer, &expirations, 8) == 8 else { return }
      handler()
    }
  }

  deinit {
    watch?.cancel()
    close(descriptor)
  }

  /// Replaces any earlier deadline (`MonotonicTime`). One that has passed fires at once. Any thread.
  public func arm(at deadline: UInt64) {
    // Zero would disarm; no moment of this process is so early.
    set(max(deadline, 1))
  }

  public func disarm() { set(0) }

  private func set(_ nanoseconds: UInt64) {
    var value = itimerspec()
    value.it_value = timespec(
      tv_sec: Int(clamping: nanoseconds / 1_000_000_000), tv_nsec: Int(truncatingIfNeeded: nanoseconds % 1_000_000_000))
    timerfd_settime(descriptor, Int32(TFD_TIMER_ABSTIME), &value, nil)
  }
}
