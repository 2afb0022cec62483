import CHost
import Glibc

/// A thread of this process.
public final class HostThread: @unchecked Sendable {
  private let handle: pthread_t
  private let isJoined = Monitor()
  private var wasJoined = false

  private init(_ handle: pthread_t) { self.handle = handle }

  /// Starts a thread that runs `body` once. `name` is seen in `top` and debuggers; 15 bytes of it count.
  public static func start(_ name: String, _ body: @escaping @Sendable () -> Void) throws(HostFailure) -> HostThread {
    let start = Unmanaged.passRetained(ThreadStart(name: name, body: body))
    var handle = pthread_t()
    let code = pthread_create(
      &handle, nil,
      { argument in
        guard let argument else { return nil }
        let start = Unmanaged<ThreadStart>.fromOpaque(argument).takeRetainedValue()
        hostNameThread(start.name)
        start.body()
        return nil
      }, start.toOpaque())
    guard code == 0 else {
      start.release()
      throw HostFailure("start the thread '\(name)'", code: code)
    }
    return HostThread(handle)
  }

  /// Waits until the thread has ended. Not from the thread itself; later calls return at once.
  public func join() {
    isJoined.withLock {
      guard !wasJoined else { return }
      pthread_join(handle, nil)
      wasJoined = true
    }
  }

  public var isCurrent: Bool { pthread_equal(handle, pthread_self()) != 0 }
}

private final class ThreadStart: Sendable {
  let name: String
  let body: @Sendable () -> Void

  init(name: String, body: @escaping @Sendable () -> Void) {
    self.name = name
    self.body = body
  }
}
