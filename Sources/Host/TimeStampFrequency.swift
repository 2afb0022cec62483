import CHost
import Glibc

/// How fast the host's time-stamp counter runs.
public struct TimeStampFrequency: Sendable, Equatable {
  /// Where the figure comes from.
  public enum Source: String, Sendable {
    case processor = "CPUID"
    case kernel
    case measured
  }

  /// Ticks per second; never zero.
  public var hertz: UInt64
  public var source: Source

  public init(hertz: UInt64, source: Source) {
    self.hertz = max(1, hertz)
    self.source = source
  }

  /// Where a measurement begins: when this is first asked for.
  private static let beginning = sample()

  /// Lets a measurement begin, so that `find` need not wait for it. The earlier, the better.
  public static func prepare() { _ = beginning }

  /// Asks the processor, then the kernel; else measures, from `prepare` on and for `interval` nanoseconds at least. A
  /// sample is off by up to ten nanoseconds, which makes a few millionths of the shortest interval: less than the host's
  /// crystal is off by.
  public static func find(interval: UInt64 = 2_000_000) -> TimeStampFrequency {
    if let hertz = fromProcessor() { return TimeStampFrequency(hertz: hertz, source: .processor) }
    if let kilohertz = TextFile.number("/sys/devices/system/cpu/cpu0/tsc_freq_khz"), kilohertz > 0 {
      return TimeStampFrequency(hertz: kilohertz &* 1000, source: .kernel)
    }
    return TimeStampFrequency(hertz: measure(interval), source: .measured)
  }

  /// Ticks as nanoseconds.
  public func nanoseconds(_ ticks: UInt64) -> UInt64 {
    let product = ticks.multipliedFullWidth(by: 1_000_000_000)
    // Beyond 2^64 nanoseconds: five centuries.
    guard product.high < hertz else { return .max }
    return hertz.dividingFullWidth(product).quotient
  }

  /// CPUID leaf 15H, the crystal's ratio; or the kHz that KVM and VMware tell their guests. Leaf 16H is the processor's
  /// marketing frequency, up to a percent beside the truth: worse than a measurement.
  private static func fromProcessor() -> UInt64? {
    if cpuid(0).eax >= 0x15 {
      let leaf = cpuid(0x15)
      if leaf.eax > 0, leaf.ebx > 0, leaf.ecx > 0 { return UInt64(leaf.ecx) * UInt64(leaf.ebx) / UInt64(leaf.eax) }
    }
    if cpuid(1).ecx >> 31 == 1, (0x4000_0010...0x4000_ffff).contains(cpuid(0x4000_0000).eax) {
      let kilohertz = cpuid(0x4000_0010).eax
      if kilohertz > 0 { return UInt64(kilohertz) * 1000 }
    }
    return nil
  }

  private static func measure(_ interval: UInt64) -> UInt64 {
    let start = beginning
    let passed = MonotonicTime.now &- start.time
    if passed < interval { usleep(UInt32(clamping: (interval - passed) / 1000 + 1)) }
    let end = sample()
    let (ticks, time) = (end.ticks &- start.ticks, end.time &- start.time)
    let product = ticks.multipliedFullWidth(by: 1_000_000_000)
    guard product.high < time else { return 1_000_000_000 }
    return max(1, time.dividingFullWidth(product).quotient)
  }

  /// Both clocks at one moment: of several tries the one that took the fewest ticks.
  private static func sample() -> (ticks: UInt64, time: UInt64) {
    var best = (width: UInt64.max, ticks: UInt64(0), time: UInt64(0))
    for _ in 0..<8 {
      let before = hostTimeStamp()
      let time = MonotonicTime.now
      let after = hostTimeStamp()
      let width = after &- before
      if width < best.width { best = (width, before &+ width / 2, time) }
    }
    return (best.ticks, best.time)
  }
}
