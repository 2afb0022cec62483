import Glibc

/// A call to the host's kernel failed. For the person at the keyboard: what was tried, and the kernel's reason.
public struct HostFailure: Error, CustomStringConvertible, Sendable, Equatable {
  /// What could not be done, as an infinitive: "open '/dev/kvm'".
  public var action: String
  /// The kernel's error number.
  public var code: Int32

  public init(_ action: String, code: Int32) {
    self.action = action
    self.code = code
  }

  /// A failure of the call that was just made: takes `errno`.
  public init(_ action: String) {
    self.init(action, code: errno)
  }

  /// The kernel's reason in words.
  public var reason: String { String(cString: strerror(code)) }

  public var description: String { "could not \(action): \(reason)" }
}
