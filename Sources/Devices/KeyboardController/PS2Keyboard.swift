/// A PS/2 keyboard behind the controller: what it answers to commands, and the keys that are pressed on it (IBM
/// Personal System/2 Hardware Interface Technical Reference, "Keyboards").
///
/// It knows scan code sets 1 and 2. Set 3 is refused, as many keyboards do: drivers then stay with set 2.
struct PS2Keyboard: Codable, Equatable, Sendable {
  private(set) var queue = PS2Queue()
  /// A command that waits for its argument.
  private var command: UInt8?
  private var isScanning = true
  private var scanCodeSet: UInt8 = 2
  private var indicators: UInt8 = 0
  /// Rate and delay, kept for the record: keys repeat as the host's keyboard does.
  private var typematic: UInt8 = 0x2b
  private var lastSent: UInt8 = 0
  /// For set 1, which is set 2 as the controller would translate it.
  private var translation = ScanCodeTranslation()

  private static let acknowledge: UInt8 = 0xfa
  private static let resend: UInt8 = 0xfe

  mutating func take() -> UInt8? {
    let byte = queue.take()
    if let byte { lastSent = byte }
    return byte
  }

  /// Key codes in scan code set 2: whole make or break codes. Lost where the keyboard's buffer is full.
  mutating func press(_ codes: [UInt8]) {
    guard isScanning else { return }
    guard scanCodeSet == 1 else {
      _ = queue.event(codes)
      return
    }
    _ = queue.event(codes.compactMap { translation.translate($0) })
  }

  /// A byte from the controller.
  mutating func receive(_ byte: UInt8) {
    if let command, byte < 0xed {
      self.command = nil
      receiveArgument(byte, of: command)
      return
    }
    command = nil
    switch byte {
    case 0xed, 0xf0, 0xf3, 0xfb, 0xfc, 0xfd:
      command = byte
      queue.answer(Self.acknowledge)
    case 0xee: queue.answer(0xee)
    case 0xf2: queue.answer(Self.acknowledge, 0xab, 0x83)
    case 0xf4:
      queue.removeAll()
      isScanning = true
      queue.answer(Self.acknowledge)
    case 0xf5, 0xf6:
      setDefaults()
      isScanning = byte == 0xf6
      queue.answer(Self.acknowledge)
    // Key types of scan code set 3.
    case 0xf7...0xfa: queue.answer(Self.acknowledge)
    case 0xfe: queue.answer(lastSent)
    case 0xff:
      setDefaults()
      isScanning = true
      // The self-test takes no time and passes.
      queue.answer(Self.acknowledge, 0xaa)
    default: queue.answer(Self.resend)
    }
  }

  private mutating func receiveArgument(_ byte: UInt8, of command: UInt8) {
    switch (command, byte) {
    case (0xed, _):
      indicators = byte & 0b111
      queue.answer(Self.acknowledge)
    case (0xf0, 0): queue.answer(Self.acknowledge, scanCodeSet)
    case (0xf0, 1), (0xf0, 2):
      scanCodeSet = byte
      queue.answer(Self.acknowledge)
    case (0xf0, _): queue.answer(Self.resend)
    case (0xf3, _):
      typematic = byte
      queue.answer(Self.acknowledge)
    default: queue.answer(Self.acknowledge)
    }
  }

  private mutating func setDefaults() {
    queue.removeAll()
    scanCodeSet = 2
    indicators = 0
    typematic = 0x2b
    translation = ScanCodeTranslation()
  }
}
