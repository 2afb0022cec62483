import CHost
import Glibc

/// A terminal without a screen: what one end writes, the other reads.
public final class PseudoTerminal: Sendable {
  /// The end that a person would sit at.
  public let controller: Int32
  /// The end that a program has as its terminal.
  public let terminal: Int32

  private static let unlock: UInt = 0x4004_5431  // TIOCSPTLCK
  private static let openPeer: UInt = 0x5441  // TIOCGPTPEER

  /// Nil where the host has no pseudo-terminals.
  public init?() {
    let multiplexer = open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC)
    var zero: Int32 = 0
    let isUnlocked = withUnsafePointer(to: &zero) { hostControl(multiplexer, Self.unlock, UInt(bitPattern: $0)) == 0 }
    controller = multiplexer
    terminal = isUnlocked ? hostControl(multiplexer, Self.openPeer, UInt(O_RDWR | O_NOCTTY | O_CLOEXEC)) : -1
    guard terminal >= 0 else { return nil }
  }

  deinit {
    close(terminal)
    close(controller)
  }

  public var settings: termios {
    var settings = termios()
    tcgetattr(terminal, &settings)
    return settings
  }
}
