/// How a machine's run ended.
public enum MachineOutcome: Sendable, Equatable {
  /// The guest switched itself off.
  case poweredOff
  /// The guest asked for a reset, and resets were to end the run.
  case resetRequested
  /// A processor shut down by a triple fault, and resets were to end the run. With its registers, as text.
  case crashed(String)
  /// The guest failed in another way, and that was to end the run.
  case guestFailed(GuestFailure)
  /// The guest ended the run with a status through the debug-exit port.
  case exited(status: Int32)
  /// The host ended the run: the user, or a signal.
  case stopped
  /// The host could not go on. With the reason.
  case failed(String)
}
