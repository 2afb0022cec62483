import CSpawn

/// Somebody at a guest's serial console: waits for text, types lines, and sees how the program ends.
///
/// Text is compared as bytes, since a guest may say anything. What was waited for is behind the reader then: the next
/// wait begins after it.
final class GuestConsole {
  let process: ChildProcess
  /// Where the next wait begins to look.
  private var position = 0
  private var commandCount = 0

  /// A guest that takes so long has come to a halt. A busy machine makes everything slow, so this is generous.
  static let bootLimit = Duration.seconds(240)
  static let commandLimit = Duration.seconds(120)

  init(_ arguments: [String], wiring: Wiring = .pipes) throws {
    process = try ChildProcess(arguments, wiring: wiring)
  }

  /// Starts `ringside run` with these options.
  convenience init(run options: [String], wiring: Wiring = .pipes) throws {
    try self.init([Program.path, "run"] + options, wiring: wiring)
  }

  /// All that the guest has said so far.
  var transcript: String { String(decoding: process.output, as: UTF8.self) }
  /// What the program has written to standard error.
  var errors: String { String(decoding: process.errors, as: UTF8.self) }

  /// Waits until the guest has said `text`, and returns what came before it.
  @discardableResult func wait(for text: String, within limit: Duration = commandLimit) throws -> String {
    let wanted = Array(text.utf8)
    let deadline = ContinuousClock.now + limit
    var searched = position
    while true {
      if let start = process.output[searched...].firstIndex(of: wanted) {
        let before = process.output[position..<start]
        position = start + wanted.count
        return String(decoding: before, as: UTF8.self)
      }
      searched = max(position, process.output.count - wanted.count + 1)
      guard process.pump(until: deadline), ContinuousClock.now < deadline else {
        throw Silence(wanted: text, limit: limit, ending: process.waitForEnd(within: .seconds(1)), transcript, errors)
      }
    }
  }

  /// Types `text` as it is.
  func type(_ text: String) throws { try process.write(Array(text.utf8)) }

  /// Waits for the default guest's shell.
  func waitForShell() throws {
    try wait(for: "built-in shell (ash)", within: Self.bootLimit)
    try wait(for: "# ")
  }

  /// Lets the guest's shell run a command line, and returns what it printed and its exit status.
  func run(_ command: String, within limit: Duration = commandLimit) throws -> (output: String, status: Int) {
    commandCount += 1
    // The shell echoes what is typed: the marks are typed in two halves, so that only their output is whole.
    try type("echo 'BE''GIN-\(commandCount)'; \(command); echo 'EN''D-\(commandCount)' $?\n")
    try wait(for: "BEGIN-\(commandCount)\r\n", within: limit)
    let output = try wait(for: "END-\(commandCount) ", within: limit)
    let status = try wait(for: "\r\n")
    let lines = output.split(separator: "\r\n", omittingEmptySubsequences: false).joined(separator: "\n")
    return (lines.hasSuffix("\n") ? String(lines.dropLast()) : lines, Int(status) ?? -1)
  }

  /// Waits until the display that `--screen` keeps in `file` shows each of `texts`.
  func waitForScreen(_ file: String, showing texts: [String], within limit: Duration = bootLimit) throws {
    let deadline = ContinuousClock.now + limit
    while true {
      // A display that has shown nothing yet has no file.
      let screen = (try? contents(ofFile: file)).map { String(decoding: $0, as: UTF8.self) } ?? ""
      if texts.allSatisfy(screen.contains) { return }
      let isAlive = process.pump(until: min(deadline, ContinuousClock.now + .milliseconds(200)))
      guard isAlive, ContinuousClock.now < deadline else {
        throw Silence(
          wanted: "\(texts) on the display", limit: limit, ending: process.waitForEnd(within: .seconds(1)),
          transcript + "\nthe display: " + screen, errors)
      }
    }
  }

  /// Waits for the program's end.
  func waitForEnd(within limit: Duration = commandLimit) throws -> Ending {
    if let ending = process.waitForEnd(within: limit) { return ending }
    throw Silence(wanted: "the program's end", limit: limit, ending: nil, transcript, errors)
  }

  /// Waits for the program's end without reading a byte.
  func waitForEndUnread(within limit: Duration = commandLimit) throws -> Ending {
    if let ending = process.waitForEnd(within: limit, isReading: false) { return ending }
    throw Silence(wanted: "the program's end", limit: limit, ending: nil, transcript, errors)
  }

  /// What was waited for did not come.
  struct Silence: Error, CustomStringConvertible {
    let description: String

    init(wanted: String, limit: Duration, ending: Ending?, _ transcript: String, _ errors: String) {
      description = """
        waited \(limit) for \(wanted.debugDescription); \(ending.map { "the program ended: \($0)" } ?? "none came")
        the guest said last: \(transcript.suffix(3000))
        standard error: \(errors.suffix(2000))
        """
    }
  }
}

extension ArraySlice<UInt8> {
  /// Where `pattern` first stands. Neither may be empty.
  fileprivate func firstIndex(of pattern: [UInt8]) -> Int? {
    guard !isEmpty, count >= pattern.count else { return nil }
    let offset = withUnsafeBytes { firstOccurrence($0.baseAddress!, $0.count, pattern, pattern.count) }
    return offset >= 0 ? startIndex + offset : nil
  }
}
