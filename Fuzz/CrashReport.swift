import Glibc

/// Says which guest was running when the process dies or hangs. Signal handlers may do little: the text is ready before.
enum CrashReport {
  nonisolated(unsafe) private static let text = UnsafeMutablePointer<UInt8>.allocate(capacity: 256)
  nonisolated(unsafe) private static let count = UnsafeMutablePointer<Int>.allocate(capacity: 1)

  /// Seconds that one guest may take.
  private static let patience: UInt32 = 60

  /// In a test's process there is no report, and above all no alarm.
  nonisolated(unsafe) private static var isInstalled = false

  static func install() {
    isInstalled = true
    count.pointee = 0
    _ = text
    for number in [SIGILL, SIGSEGV, SIGBUS, SIGABRT, SIGALRM] {
      signal(number) { number in
        write(2, CrashReport.text, CrashReport.count.pointee)
        signal(number, SIG_DFL)
        raise(number)
      }
    }
  }

  /// The guest that runs from now on.
  static func note(_ message: String) {
    guard isInstalled else { return }
    let bytes = Array(message.utf8.prefix(256))
    for (index, byte) in bytes.enumerated() { text[index] = byte }
    count.pointee = bytes.count
    alarm(patience)
  }
}
