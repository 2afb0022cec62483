import Host

/// Listens at a socket in the file system for what is asked of the running machine.
///
/// Each connection is served by a thread of its own, since an answer may take as long as a snapshot; requests are carried
/// out one at a time.
final class ControlServer: Sendable {
  private let listener: UnixSocketListener

  /// How long a client may think before it says something, in milliseconds.
  private static let patience: Int32 = 10_000

  /// `perform` carries a request out and throws what the client is to be told.
  init(path: String, loop: EventLoop, perform: @escaping @Sendable (ControlRequest) throws -> Void) throws(HostFailure)
  {
    let turn = Monitor()
    listener = try UnixSocketListener(path: path, on: loop) { descriptor in
      let connection = LineConnection(descriptor: descriptor, name: path)
      _ = try? HostThread.start("control") {
        // A client that goes away, or says nothing, is none of the machine's business.
        while let line = try? connection.receive(patience: Self.patience) {
          guard (try? connection.send(turn.withLock { Self.answer(line, perform) })) != nil else { return }
        }
      }
    }
  }

  private static func answer(_ line: String, _ perform: (ControlRequest) throws -> Void) -> String {
    guard let request = ControlRequest(line: line) else { return "error there is no such request" }
    do {
      try perform(request)
      return "ok"
    } catch {
      return "error \(error)"
    }
  }

  /// Asks the machine that listens at `path`, and waits for its answer.
  static func ask(_ request: ControlRequest, path: String) throws {
    let connection = try LineConnection(path: path)
    try connection.send(request.line)
    guard let answer = try connection.receive() else {
      throw CommandFailure(description: "the machine at '\(path)' ended before it answered")
    }
    guard answer == "ok" else {
      throw CommandFailure(description: String(answer.trimmingPrefix("error ")))
    }
  }
}
