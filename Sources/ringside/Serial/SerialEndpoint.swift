import Devices
import Host

/// The host's end of the guest's serial line.
protocol SerialEndpoint: CharacterBackend {
  /// Input may come from now on.
  func start(_ line: SerialLine) throws
  /// The guest is idle: what was gathered is to be written. Any thread.
  func flush()
  /// The machine has ended. Writes what waits, for as long as progress is made within `patience` nanoseconds (nil: for as
  /// long as it takes, or until `abandon`).
  func finish(patience: UInt64?) throws(HostFailure)
  /// Gives up on what waits to be written. Any thread.
  func abandon()
}

/// What an endpoint may ask of the program. Any thread.
struct SerialHandlers: Sendable {
  /// The user has asked for the end (Ctrl-a x).
  var end: @Sendable () -> Void
  /// The user has pressed the machine's power button (Ctrl-a p).
  var pressPowerButton: @Sendable () -> Void
  /// Output has failed: the run cannot go on.
  var fail: @Sendable (HostFailure) -> Void
}
