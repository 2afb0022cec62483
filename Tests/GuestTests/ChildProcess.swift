import CSpawn
import Glibc

/// A process that a test has started: its output is gathered while the test waits, and it does not outlive the object.
///
/// Used from one thread at a time. Streams are read only inside `pump`, so a child whose output nobody waits for stands
/// still once its pipe is full, which is what a test of backpressure wants.
final class ChildProcess {
  let identifier: pid_t
  /// All that came from the child's standard output (or terminal) and standard error.
  private(set) var output: [UInt8] = []
  private(set) var errors: [UInt8] = []
  private(set) var ending: Ending?
  /// The test's end of the child's terminal, or -1.
  let terminal: Int32

  private var input: Int32
  private var outputSource: Int32
  private var errorSource: Int32

  /// Starts `arguments[0]`, a path, in `directory`, with this process's environment.
  init(_ arguments: [String], wiring: Wiring = .pipes, directory: String = Program.packageRoot) throws {
    _ = Self.preparation
    let streams = try ChildStreams(wiring)
    // A session of its own in every case: what the test run's terminal sends stays away from the child, and a terminal
    // that it opens becomes its own.
    var attributes = posix_spawnattr_t()
    var result = spawnAttributesForNewSession(&attributes)
    guard result == 0 else { throw HostCallFailure("posix_spawnattr_init", code: result) }
    defer { posix_spawnattr_destroy(&attributes) }
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    _ = spawnInDirectory(&actions, directory)
    streams.addActions(to: &actions)

    var argumentPointers: [UnsafeMutablePointer<CChar>?] = arguments.map { strdup($0) }
    argumentPointers.append(nil)
    defer { for pointer in argumentPointers { free(pointer) } }
    var identifier: pid_t = 0
    result = posix_spawn(&identifier, arguments[0], &actions, &attributes, argumentPointers, environ)
    streams.closeChildEnds()
    guard result == 0 else {
      streams.closeTestEnds()
      throw HostCallFailure("posix_spawn \(arguments[0])", code: result)
    }
    self.identifier = identifier
    terminal = streams.terminal
    input = streams.input
    outputSource = streams.output
    errorSource = streams.errors
  }

  deinit {
    kill()
    for descriptor in Set([input, outputSource, errorSource, terminal]) where descriptor >= 0 { close(descriptor) }
  }

  /// Writing to a child that has ended is an error like others, not the end of the test run; and a Swift program that
  /// crashes prints its stack without asking anybody what to do next.
  private static let preparation: Void = {
    _ = signal(SIGPIPE, SIG_IGN)
    setenv("SWIFT_BACKTRACE", "interactive=no,color=no", 0)
  }()

  /// Types `bytes`, waiting for room and reading what the child says meanwhile. What a child that has ended does not
  /// take any more is dropped.
  func write(_ bytes: [UInt8], within limit: Duration = .seconds(60)) throws {
    let deadline = ContinuousClock.now + limit
    var next = 0
    while next < bytes.count, input >= 0 {
      let count = bytes.withUnsafeBytes { Glibc.write(input, $0.baseAddress! + next, $0.count - next) }
      if count > 0 {
        next += count
      } else if errno == EPIPE || errno == EIO {
        return
      } else if errno != EAGAIN && errno != EINTR {
        throw HostCallFailure("write to the child")
      } else if ContinuousClock.now > deadline {
        throw HostCallFailure("write to the child", code: ETIMEDOUT)
      } else {
        pump(until: min(deadline, .now + .milliseconds(10)))
      }
    }
  }

  /// Ends the child's input.
  func closeInput() {
    if input >= 0, input != terminal { close(input) }
    input = -1
  }

  /// Gathers what the child says until something came, its streams ended, or `deadline` has passed. False once there is
  /// nothing more to come.
  @discardableResult func pump(until deadline: ContinuousClock.Instant) -> Bool {
    var sources = [outputSource, errorSource].filter { $0 >= 0 }
    guard !sources.isEmpty else { return false }
    var polled = sources.map { pollfd(fd: $0, events: Int16(POLLIN), revents: 0) }
    guard poll(&polled, nfds_t(polled.count), Self.milliseconds(until: deadline)) > 0 else { return true }
    for entry in polled where entry.revents != 0 { read(entry.fd) }
    sources = [outputSource, errorSource].filter { $0 >= 0 }
    return !sources.isEmpty
  }

  /// Waits for the child to end and gathers the rest of its output, unless it is not to be read. Nil: it has not ended by
  /// the limit.
  func waitForEnd(within limit: Duration, isReading: Bool = true) -> Ending? {
    let deadline = ContinuousClock.now + limit
    while ending == nil, ContinuousClock.now < deadline {
      // A child may end while a descendant of its own holds its streams, or close its streams and go on.
      if !isReading || !pump(until: min(deadline, .now + .milliseconds(20))) { usleep(5000) }
      reap(WNOHANG)
    }
    while isReading, ending != nil, ContinuousClock.now < deadline, isReadable { pump(until: .now) }
    return ending
  }

  /// Ends the child by force if it has not ended.
  func kill() {
    guard ending == nil else { return }
    Glibc.kill(identifier, SIGKILL)
    reap(0)
  }

  /// Sends a signal.
  func signalChild(_ number: Int32) { if ending == nil { Glibc.kill(identifier, number) } }

  private func reap(_ options: Int32) {
    guard ending == nil else { return }
    var status: Int32 = 0
    if waitpid(identifier, &status, options) == identifier { ending = Ending(waitStatus: status) }
  }

  private var isReadable: Bool {
    [outputSource, errorSource].contains {
      var entry = pollfd(fd: $0, events: Int16(POLLIN), revents: 0)
      return $0 >= 0 && poll(&entry, 1, 0) > 0
    }
  }

  private func read(_ descriptor: Int32) {
    let bytes = [UInt8](unsafeUninitializedCapacity: 1 << 16) { buffer, count in
      count = max(Glibc.read(descriptor, buffer.baseAddress, buffer.count), 0)
    }
    if descriptor == outputSource { output += bytes } else { errors += bytes }
    guard bytes.isEmpty else { return }
    // The end; on a terminal, EIO once the child has closed it.
    if descriptor == outputSource { outputSource = -1 } else { errorSource = -1 }
    if descriptor != terminal { close(descriptor) }
  }

  private static func milliseconds(until deadline: ContinuousClock.Instant) -> Int32 {
    let left = max(deadline - .now, .zero).components
    return Int32(clamping: left.seconds * 1000 + left.attoseconds / 1_000_000_000_000_000 + 1)
  }
}
