import Synchronization

/// A place for the line that an endpoint is connected to once the machine is built, for the endpoint's threads.
final class SerialLineReference: Sendable {
  private let line = Mutex<SerialLine?>(nil)

  var current: SerialLine? {
    get { line.withLock { $0 } }
    set { line.withLock { $0 = newValue } }
  }
}
