import Glibc
import Host
import Synchronization

/// A value that threads change and a test waits for.
public final class Shared<Value: Sendable>: Sendable {
  private let value: Mutex<Value>

  public init(_ value: Value) { self.value = Mutex(value) }

  public var current: Value { value.withLock { $0 } }

  public func change(_ body: (inout Value) -> Void) { value.withLock { body(&$0) } }

  /// Waits at most ten seconds; false where the condition never came true.
  public func wait(_ condition: (Value) -> Bool) -> Bool {
    let deadline = MonotonicTime.now + 10_000_000_000
    while MonotonicTime.now < deadline {
      if condition(current) { return true }
      usleep(500)
    }
    return condition(current)
  }
}
