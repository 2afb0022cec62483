import CSpawn
import Glibc

/// The descriptors of a child's standard streams: the test's ends, and the child's. -1 where there is none.
struct ChildStreams {
  private(set) var input: Int32 = -1
  private(set) var output: Int32 = -1
  private(set) var errors: Int32 = -1
  /// The test's end of a terminal; `input` and `output` are the same then.
  private(set) var terminal: Int32 = -1
  /// Paths or descriptors for the child's 0, 1 and 2.
  private var childEnds: [ChildEnd] = []

  private enum ChildEnd {
    case descriptor(Int32)
    case path(String, flags: Int32)
    case closed
  }

  init(_ wiring: Wiring) throws {
    if wiring.isTerminal {
      let path = try openTerminal()
      childEnds = [.path(path, flags: O_RDWR), .path(path, flags: O_RDWR)]
    } else {
      switch wiring.input {
      case .typed:
        let ends = try Self.pipe()
        (input, childEnds) = (ends.write, [.descriptor(ends.read)])
        _ = fcntl(input, F_SETFL, O_NONBLOCK)
      case .null: childEnds = [.path("/dev/null", flags: O_RDONLY)]
      case .closed: childEnds = [.closed]
      }
      output = try add(wiring.output)
    }
    errors = try add(wiring.errors)
  }

  /// Lets a child have its ends as 0, 1 and 2.
  func addActions(to actions: inout posix_spawn_file_actions_t) {
    for (number, end) in childEnds.enumerated() {
      switch end {
      case .descriptor(let descriptor): posix_spawn_file_actions_adddup2(&actions, descriptor, Int32(number))
      case .path(let path, let flags): posix_spawn_file_actions_addopen(&actions, Int32(number), path, flags, 0)
      case .closed: posix_spawn_file_actions_addclose(&actions, Int32(number))
      }
    }
  }

  func closeChildEnds() {
    for case .descriptor(let descriptor) in childEnds { close(descriptor) }
  }

  func closeTestEnds() {
    for descriptor in Set([input, output, errors]) where descriptor >= 0 { close(descriptor) }
  }

  private mutating func add(_ wanted: Wiring.Output) throws -> Int32 {
    switch wanted {
    case .captured:
      let ends = try Self.pipe()
      childEnds.append(.descriptor(ends.write))
      return ends.read
    case .file(let path): childEnds.append(.path(path, flags: O_WRONLY))
    case .closed: childEnds.append(.closed)
    }
    return -1
  }

  private static func pipe() throws -> (read: Int32, write: Int32) {
    var ends: [Int32] = [-1, -1]
    guard spawnPipe(&ends) == 0 else { throw HostCallFailure("pipe2") }
    return (ends[0], ends[1])
  }

  /// Opens a new terminal and returns the path of the child's side.
  private mutating func openTerminal() throws -> String {
    var path = [CChar](repeating: 0, count: 128)
    let descriptor = spawnTerminal(&path, path.count)
    guard descriptor >= 0 else { throw HostCallFailure("posix_openpt") }
    (input, output, terminal) = (descriptor, descriptor, descriptor)
    return path.withUnsafeBufferPointer { String(cString: $0.baseAddress!) }
  }
}
