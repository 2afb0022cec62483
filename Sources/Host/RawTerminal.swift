import CHost
import Glibc

/// A terminal whose keys all go to the guest, and that gets its settings back whatever happens.
///
/// On an orderly end the program calls `leave`. For every other end (a trap, abort, SIGKILL) a guard process waits: see
/// `hostTerminalGuardStart`. No signal handler takes part, so engines are free to use SIGSEGV and its kin.
///
/// Used from one thread at a time.
public final class RawTerminal: @unchecked Sendable {
  private let descriptor: Int32
  private let monitor = Monitor()
  private var saved: termios?
  private var terminalGuard: HostTerminalGuard?

  /// Nil where `descriptor` is not a terminal.
  public init?(descriptor: Int32) {
    guard isatty(descriptor) == 1 else { return nil }
    self.descriptor = descriptor
  }

  deinit { leave() }

  /// Whether this process may talk to the terminal, or is a background job of its shell.
  public var isForeground: Bool { tcgetpgrp(descriptor) == getpgrp() }

  /// Switches echo, line editing, flow control and signal keys off. Output still turns line feeds into new lines, so
  /// that messages of the program read well. Does nothing when it was entered already.
  public func enter() throws(HostFailure) {
    monitor.lock()
    defer { monitor.unlock() }
    guard saved == nil else { return }
    var settings = termios()
    guard tcgetattr(descriptor, &settings) == 0 else { throw HostFailure("read the terminal's settings") }
    let original = settings
    var started = HostTerminalGuard()
    guard hostTerminalGuardStart(descriptor, &settings, &started) == 0 else {
      throw HostFailure("start the process that guards the terminal's settings")
    }
    settings.c_iflag &= ~tcflag_t(IGNBRK | BRKINT | PARMRK | ISTRIP | INLCR | IGNCR | ICRNL | IXON)
    settings.c_oflag |= tcflag_t(OPOST | ONLCR)
    settings.c_lflag &= ~tcflag_t(ECHO | ECHONL | ICANON | IEXTEN | ISIG)
    settings.c_cflag = settings.c_cflag & ~tcflag_t(CSIZE | PARENB) | tcflag_t(CS8)
    settings.c_cc.6 = 1  // VMIN: a read returns from the first byte on …
    settings.c_cc.5 = 0  // VTIME: … without waiting for more.
    guard tcsetattr(descriptor, TCSANOW, &settings) == 0 else {
      let failure = HostFailure("change the terminal's settings")
      dismiss(started)
      throw failure
    }
    saved = original
    terminalGuard = started
  }

  /// Gives the terminal its settings back. Does nothing when it was not entered.
  public func leave() {
    monitor.lock()
    defer { monitor.unlock() }
    guard var settings = saved else { return }
    // A background job's shell has set the terminal up for itself: hands off.
    if isForeground { tcsetattr(descriptor, TCSANOW, &settings) }
    saved = nil
    if let terminalGuard { dismiss(terminalGuard) }
    terminalGuard = nil
  }

  /// Ends the guard without letting it do anything: one byte tells it so.
  private func dismiss(_ terminalGuard: HostTerminalGuard) {
    var byte: UInt8 = 1
    _ = write(terminalGuard.trigger, &byte, 1)
    close(terminalGuard.trigger)
    var status: Int32 = 0
    while waitpid(terminalGuard.process, &status, 0) < 0, errno == EINTR {}
  }
}
