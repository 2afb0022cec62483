/// What a guest, or a device that watches it, says has become of it.
public enum GuestFailure: String, Equatable, Sendable, CustomStringConvertible {
  /// Its kernel has crashed.
  case panic
  /// Its kernel has crashed, and a crash kernel of its own is about to take over.
  case crashKernelLoaded
  /// It has not reset its watchdog in time.
  case watchdog

  /// For the user, without a full stop.
  public var description: String {
    switch self {
    case .panic: "the guest's kernel has crashed"
    case .crashKernelLoaded: "the guest's kernel has crashed, and its crash kernel takes over"
    case .watchdog: "the guest has not reset its watchdog in time"
    }
  }
}
