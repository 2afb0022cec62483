import CHost
import Glibc

/// The outside world as it comes: what is neither recorded nor replayed.
public final class HostInput: NondeterministicInput {
  public init() {}

  public func wallClock() -> UInt64 {
    var time = timespec()
    clock_gettime(CLOCK_REALTIME, &time)
    return UInt64(clamping: time.tv_sec) &* 1_000_000_000 &+ UInt64(truncatingIfNeeded: time.tv_nsec)
  }

  public func entropy(_ buffer: UnsafeMutableRawBufferPointer) {
    guard let start = buffer.baseAddress else { return }
    // Without flags getrandom(2) fails only for a bad buffer.
    precondition(hostEntropy(start, buffer.count) == 0, "the kernel has refused entropy")
  }

  public func receive(_ bytes: [UInt8], source: String) -> [UInt8] { bytes }
}
