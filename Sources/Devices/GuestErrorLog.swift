import Logging

/// Reports what a guest does that its device's manual does not allow, a bounded number of times: a guest that writes
/// nonsense in a loop must not fill the host's disk.
struct GuestErrorLog {
  private var logger: Logger?
  private let device: String
  private var remaining = 0

  /// - Parameter device: name that begins each message.
  init(device: String) {
    self.device = device
  }

  /// From now on messages go to `logger`, `limit` of them.
  mutating func start(_ logger: Logger, limit: Int = 32) {
    self.logger = logger
    remaining = limit
  }

  mutating func note(_ message: @autoclosure () -> String) {
    guard remaining > 0, let logger else { return }
    remaining -= 1
    logger.debug("\(device): \(message())\(remaining == 0 ? " (more of this kind is not reported)" : "")")
  }
}
