/// What a machine does when its guest has failed.
public enum FailureResponse: String, CaseIterable, Sendable {
  /// Nothing but an event and a message.
  case none
  case reset
  case powerOff = "poweroff"
  /// The machine stands still, and can be saved.
  case pause
  /// The run ends, and is told from one that ended well.
  case end
}
