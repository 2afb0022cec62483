import Host
import Logging

/// Writes log messages to standard error, one line each: `ringside: warning: serial: …`.
struct ConsoleLogHandler: LogHandler {
  var metadata: Logger.Metadata = [:]
  var logLevel: Logger.Level

  init(level: Logger.Level) { logLevel = level }

  subscript(metadataKey key: String) -> Logger.Metadata.Value? {
    get { metadata[key] }
    set { metadata[key] = newValue }
  }

  func log(event: LogEvent) {
    let device = metadata["device"].map { "\($0): " } ?? ""
    Ringside.report("\(event.level): \(device)\(event.message)")
  }
}
