import CHost
import CSilicon
import Glibc

/// The fenced process in which instructions run on the host's own processor.
final class SiliconProcess {
  struct Failure: Error, CustomStringConvertible {
    let description: String
  }

  let batch: UnsafeMutablePointer<SiliconBatch>
  private var identifier: pid_t = 0
  private var requests: Int32 = -1
  private var replies: Int32 = -1
  private let file: Int32

  init() throws {
    let size = MemoryLayout<SiliconBatch>.size
    file = hostMemoryFile("silicon-cases")
    guard file >= 0, ftruncate(file, size) == 0,
      let mapping = mmap(nil, size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0), mapping != MAP_FAILED
    else { throw Failure(description: "no shared memory: \(String(cString: strerror(errno)))") }
    batch = mapping.bindMemory(to: SiliconBatch.self, capacity: 1)
    try start()
  }

  deinit {
    stop()
    munmap(batch, MemoryLayout<SiliconBatch>.size)
    close(file)
  }

  /// Cases of the batch.
  var cases: UnsafeMutablePointer<SiliconCase> {
    UnsafeMutableRawPointer(batch).advanced(by: MemoryLayout<SiliconBatch>.offset(of: \.cases)!)
      .assumingMemoryBound(to: SiliconCase.self)
  }

  func runs(_ mode: SiliconMode) -> Bool { batch.pointee.modes & 1 << mode.rawValue != 0 }

  /// Has the first `count` cases run. They are with the process until `finish`.
  func begin(count: Int) throws {
    batch.pointee.count = UInt32(count)
    var byte: UInt8 = 1
    guard write(requests, &byte, 1) == 1 else { throw Failure(description: "the silicon runner is gone") }
  }

  /// Waits for the cases.
  func finish() throws {
    var poll = pollfd(fd: replies, events: Int16(POLLIN), revents: 0)
    let isReady = Glibc.poll(&poll, 1, 20_000) == 1
    var byte: UInt8 = 0
    if isReady, read(replies, &byte, 1) == 1 { return }
    let number = Int(batch.pointee.current)
    let one = cases + min(number, SiliconBatchCapacity - 1)
    let code = withUnsafeBytes(of: one.pointee.code) {
      $0.prefix(Int(one.pointee.length)).map { String($0, radix: 16) }
    }
    let bytes = code.joined(separator: " ")
    stop()
    throw Failure(
      description: "the silicon runner \(isReady ? "died" : "hangs") at case \(number), instruction \(bytes)")
  }

  private func start() throws {
    var toChild: [Int32] = [0, 0]
    var fromChild: [Int32] = [0, 0]
    guard pipe(&toChild) == 0, pipe(&fromChild) == 0 else {
      throw Failure(description: "no pipes: \(String(cString: strerror(errno)))")
    }
    for descriptor in toChild + fromChild { _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC) }
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    posix_spawn_file_actions_adddup2(&actions, toChild[0], 0)
    posix_spawn_file_actions_adddup2(&actions, fromChild[1], 1)
    posix_spawn_file_actions_adddup2(&actions, file, 3)
    defer { posix_spawn_file_actions_destroy(&actions) }
    let path = try Self.path()
    var arguments: [UnsafeMutablePointer<CChar>?] = [strdup(path), nil]
    defer { free(arguments[0]) }
    var environment: [UnsafeMutablePointer<CChar>?] = [nil]
    let status = posix_spawn(&identifier, path, &actions, nil, &arguments, &environment)
    close(toChild[0])
    close(fromChild[1])
    (requests, replies) = (toChild[1], fromChild[0])
    guard status == 0 else { throw Failure(description: "\(path): \(String(cString: strerror(status)))") }
    try begin(count: 0)
    try finish()
  }

  private func stop() {
    if requests >= 0 { close(requests) }
    if replies >= 0 { close(replies) }
    (requests, replies) = (-1, -1)
    guard identifier > 0 else { return }
    kill(identifier, SIGKILL)
    var status: Int32 = 0
    waitpid(identifier, &status, 0)
    identifier = 0
  }

  /// The runner is built beside the test.
  private static func path() throws -> String {
    var buffer = [CChar](repeating: 0, count: 4096)
    guard readlink("/proc/self/exe", &buffer, buffer.count - 1) > 0 else {
      throw Failure(description: "/proc/self/exe cannot be read")
    }
    let own = String(decoding: buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    return own.split(separator: "/").dropLast().reduce("") { $0 + "/" + $1 } + "/SiliconRunner"
  }
}
