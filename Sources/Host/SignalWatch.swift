import CHost
import Glibc

/// Signals as events on an event loop, instead of handlers that interrupt anything anywhere.
public final class SignalWatch: @unchecked Sendable {
  private let descriptor: Int32
  private var watch: EventWatch?

  /// Keeps `signals` from their default effect, in the calling thread and all that it starts from now on. To be called
  /// on the main thread before there are others.
  public static func block(_ signals: [Int32]) {
    var set = signalSet(signals)
    pthread_sigmask(SIG_BLOCK, &set, nil)
  }

  /// Writing to a pipe or socket whose reader is gone is an error of that write (EPIPE), not the end of the process.
  public static func ignoreBrokenPipes() {
    signal(SIGPIPE, SIG_IGN)
  }

  /// Ends this process by `number`, so that whoever started it sees the cause.
  public static func end(by number: Int32) -> Never {
    signal(number, SIG_DFL)
    var set = signalSet([number])
    pthread_sigmask(SIG_UNBLOCK, &set, nil)
    kill(getpid(), number)
    // Reached only where the signal is not deadly: the shells' convention.
    exit(128 + number)
  }

  /// Calls `handler` on the loop's thread for each of `signals` that arrives. They must be blocked (`block`).
  public init(_ signals: [Int32], on loop: EventLoop, _ handler: @escaping @Sendable (Int32) -> Void)
    throws(HostFailure)
  {
    var set = signalSet(signals)
    descriptor = signalfd(-1, &set, Int32(SFD_CLOEXEC | SFD_NONBLOCK))
    guard descriptor >= 0 else { throw HostFailure("receive signals") }
    let source = descriptor
    watch = try loop.watch(descriptor, for: .readable) { _ in
      var information = signalfd_siginfo()
      while read(source, &information, MemoryLayout<signalfd_siginfo>.size) == MemoryLayout<signalfd_siginfo>.size {
        handler(Int32(truncatingIfNeeded: information.ssi_signo))
      }
    }
  }

  deinit {
    watch?.cancel()
    close(descriptor)
  }
}

private func signalSet(_ signals: [Int32]) -> sigset_t {
  var set = sigset_t()
  sigemptyset(&set)
  for number in signals { sigaddset(&set, number) }
  return set
}
