import Glibc
import Host

/// A serial line on standard input and output. Where the input is a terminal, it is in raw mode and Ctrl-a is special;
/// anything else is passed on byte by byte, and its end is the end of input and nothing more.
final class ConsoleEndpoint: SerialEndpoint, @unchecked Sendable {
  private let loop: EventLoop
  private let handlers: SerialHandlers
  private let terminal: RawTerminal?
  private let line = SerialLineReference()
  private var writer: BatchingWriter!
  private var source: InputSource?
  /// The event loop's thread only.
  private var keys = ConsoleKeys()

  init(loop: EventLoop, handlers: SerialHandlers) throws(HostFailure) {
    self.loop = loop
    self.handlers = handlers
    terminal = RawTerminal(descriptor: StandardDescriptors.input)
    writer = try BatchingWriter(
      descriptor: StandardDescriptors.output, name: "standard output",
      onRoom: { [line] in line.current?.resumeTransmission() }, onFailure: handlers.fail)
  }

  /// Whether a person is at the other end.
  var isInteractive: Bool { terminal != nil }

  func start(_ line: SerialLine) throws {
    self.line.current = line
    try terminal?.enter()
    let source = InputSource(
      descriptor: StandardDescriptors.input, on: loop, receive: { [self] in received($0) }, end: {})
    line.connect { [weak source] in if $0 { source?.pause() } else { source?.resume() } }
    source.start()
    self.source = source
  }

  private func received(_ bytes: [UInt8]) {
    guard let line = line.current else { return }
    guard isInteractive else { return line.receive(bytes) }
    for action in keys.take(bytes) {
      switch action {
      case .send(let bytes): line.receive(bytes)
      case .end: handlers.end()
      case .pressPowerButton: handlers.pressPowerButton()
      case .help: Ringside.say(ConsoleKeys.help)
      }
    }
  }

  /// The program is about to be stopped by a signal, or goes on after that. The event loop's thread.
  func suspend() { terminal?.leave() }

  func resume() {
    guard let terminal, terminal.isForeground else { return }
    // A shell has set the terminal up for itself meanwhile: take its settings for the ones to go back to.
    terminal.leave()
    do throws(HostFailure) {
      try terminal.enter()
    } catch {
      handlers.fail(error)
    }
  }

  func send(_ bytes: [UInt8]) -> Int { writer.offer(bytes) }
  func flush() { writer.flush() }

  func finish(patience: UInt64?) throws(HostFailure) {
    source?.stop()
    defer { terminal?.leave() }
    try writer.finish(patience: patience)
  }

  func abandon() { writer.abandon() }
}
