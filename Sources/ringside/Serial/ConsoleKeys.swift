/// Tells keys for the guest from keys for this program: those after Ctrl-a.
struct ConsoleKeys {
  enum Action: Equatable {
    /// Bytes for the guest.
    case send([UInt8])
    /// Ctrl-a x.
    case end
    /// Ctrl-a p.
    case pressPowerButton
    /// Ctrl-a h.
    case help
  }

  static let help = """

    Ctrl-a x       end the machine
    Ctrl-a p       press its power button
    Ctrl-a h       this help
    Ctrl-a Ctrl-a  send Ctrl-a to the guest

    """

  private static let prefix: UInt8 = 0x01
  private var isPrefixed = false

  /// What the keys in `bytes` ask for, in their order. A key that means nothing after Ctrl-a is dropped with it.
  mutating func take(_ bytes: [UInt8]) -> [Action] {
    var actions: [Action] = []
    var plain: [UInt8] = []
    func flush() {
      if !plain.isEmpty { actions.append(.send(plain)) }
      plain = []
    }
    for byte in bytes {
      guard isPrefixed else {
        if byte == Self.prefix { isPrefixed = true } else { plain.append(byte) }
        continue
      }
      isPrefixed = false
      switch byte {
      case Self.prefix: plain.append(byte)
      case UInt8(ascii: "x"), UInt8(ascii: "X"):
        flush()
        actions.append(.end)
      case UInt8(ascii: "p"), UInt8(ascii: "P"):
        flush()
        actions.append(.pressPowerButton)
      case UInt8(ascii: "h"), UInt8(ascii: "H"), UInt8(ascii: "?"):
        flush()
        actions.append(.help)
      default: break
      }
    }
    flush()
    return actions
  }
}
