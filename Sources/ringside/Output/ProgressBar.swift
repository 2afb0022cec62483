import Glibc
import Host

/// Tells on standard error how far long work is, where that is a terminal.
final class ProgressBar {
  private static let width = 40
  /// Nanoseconds between two looks of it; short work shows none.
  private static let interval: UInt64 = 100_000_000

  private let title: String
  private let total: UInt64
  private let isShown = isatty(StandardDescriptors.error) == 1
  private let start = MonotonicTime.now
  private var last = MonotonicTime.now
  private var wasDrawn = false

  /// `total` is the amount of work, in bytes.
  init(_ title: String, total: UInt64) {
    self.title = title
    self.total = total
  }

  /// Takes the bar away when the work is over, however it has ended.
  deinit {
    if wasDrawn { Ringside.say("\r\u{1b}[K") }
  }

  /// So much of the work is done.
  func update(_ done: UInt64) {
    let now = MonotonicTime.now
    guard isShown, now >= last + Self.interval, total > 0 else { return }
    last = now
    wasDrawn = true
    let share = min(1, Double(done) / Double(total))
    let filled = Int(share * Double(Self.width))
    let bar = String(repeating: "#", count: filled) + String(repeating: ".", count: Self.width - filled)
    let rate = UInt64(Double(done) / (Double(now - start) / 1e9))
    Ringside.say(
      "\r\(title) [\(bar)] \(Int(share * 100))%  \(MemorySize(bytes: done)) of \(MemorySize(bytes: total)), "
        + "\(MemorySize(bytes: rate))/s\u{1b}[K")
  }
}
