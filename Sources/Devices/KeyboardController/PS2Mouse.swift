/// A PS/2 mouse with three buttons, and a wheel for drivers that ask for one by the usual sequence of sample rates
/// (IBM Personal System/2 Hardware Interface Technical Reference, "Mouse"; Microsoft's IntelliMouse for the wheel).
struct PS2Mouse: Codable, Equatable, Sendable {
  private(set) var queue = PS2Queue()
  /// A command that waits for its argument.
  private var command: UInt8?
  private var isReporting = false
  private var isRemote = false
  private var isWrapping = false
  private var scalesTwoToOne = false
  private var resolution: UInt8 = 2
  private var sampleRate: UInt8 = 100
  /// The last three sample rates: 200, 100, 80 turns the wheel on.
  private var rates: [UInt8] = []
  private var hasWheel = false
  private var buttons: UInt8 = 0
  /// Movement that no packet has told yet.
  private var x = 0
  private var y = 0
  private var wheel = 0
  private var lastSent: UInt8 = 0

  private static let acknowledge: UInt8 = 0xfa
  private static let resend: UInt8 = 0xfe

  mutating func take() -> UInt8? {
    let byte = queue.take()
    if let byte { lastSent = byte }
    return byte
  }

  /// The mouse was moved: counts to the right, up, and of the wheel towards the user; buttons are left 0, right 1,
  /// middle 2. Movements that find no room for a packet are told with the next one.
  mutating func move(right: Int, up: Int, wheel: Int, buttons: UInt8) {
    // Bounded, so that a mouse that nobody reads does not count for ever.
    x = min(max(x &+ right, -2048), 2048)
    y = min(max(y &+ up, -2048), 2048)
    if hasWheel { self.wheel = min(max(self.wheel &+ wheel, -128), 128) }
    self.buttons = buttons & 0b111
    guard isReporting, !isRemote, !isWrapping else { return }
    repeat {
      let before = self
      guard queue.event(packet()) else {
        self = before
        return
      }
    } while x != 0 || y != 0 || self.wheel != 0
  }

  /// A byte from the controller.
  mutating func receive(_ byte: UInt8) {
    if isWrapping, byte != 0xec, byte != 0xff {
      queue.answer(byte)
      return
    }
    if let command {
      self.command = nil
      receiveArgument(byte, of: command)
      return
    }
    switch byte {
    case 0xe6, 0xe7: acknowledge { $0.scalesTwoToOne = byte == 0xe7 }
    case 0xe8, 0xf3: acknowledge { $0.command = byte }
    case 0xe9: queue.answer(Self.acknowledge, status, resolution, sampleRate)
    case 0xea: acknowledge { $0.isRemote = false }
    case 0xeb:
      queue.answer(Self.acknowledge)
      for byte in packet() { queue.answer(byte) }
    case 0xec: acknowledge { $0.isWrapping = false }
    case 0xee: acknowledge { $0.isWrapping = true }
    case 0xf0: acknowledge { $0.isRemote = true }
    case 0xf2: queue.answer(Self.acknowledge, hasWheel ? 3 : 0)
    case 0xf4, 0xf5: acknowledge { $0.isReporting = byte == 0xf4 }
    case 0xf6: acknowledge { $0.setDefaults() }
    case 0xfe: queue.answer(lastSent)
    case 0xff:
      self = PS2Mouse()
      queue.answer(Self.acknowledge, 0xaa, 0x00)
    default: queue.answer(Self.resend)
    }
  }

  private mutating func acknowledge(_ change: (inout Self) -> Void) {
    // What is still queued belongs to a state that the command ends.
    queue.removeAll()
    change(&self)
    queue.answer(Self.acknowledge)
  }

  private mutating func receiveArgument(_ byte: UInt8, of command: UInt8) {
    if command == 0xe8 {
      guard byte <= 3 else {
        queue.answer(Self.resend)
        return
      }
      resolution = byte
    } else {
      sampleRate = byte
      rates = rates.suffix(2) + [byte]
      if rates == [200, 100, 80] { hasWheel = true }
    }
    queue.answer(Self.acknowledge)
  }

  private mutating func setDefaults() {
    isReporting = false
    isRemote = false
    scalesTwoToOne = false
    resolution = 2
    sampleRate = 100
    x = 0
    y = 0
    wheel = 0
  }

  private var status: UInt8 {
    // Buttons here in the order left 2, middle 1, right 0.
    (isRemote ? 0x40 : 0) | (isReporting ? 0x20 : 0) | (scalesTwoToOne ? 0x10 : 0)
      | (buttons & 1) << 2 | (buttons >> 1 & 1) | (buttons >> 2 & 1) << 1
  }

  /// Takes as much of the movement as a packet can tell: nine bits of each direction, four of the wheel.
  private mutating func packet() -> [UInt8] {
    let stepX = min(max(x, -255), 255)
    let stepY = min(max(y, -255), 255)
    x -= stepX
    y -= stepY
    let head = 0x08 | buttons | (stepX < 0 ? 0x10 : 0) | (stepY < 0 ? 0x20 : 0)
    var packet = [head, UInt8(truncatingIfNeeded: stepX), UInt8(truncatingIfNeeded: stepY)]
    if hasWheel {
      let step = min(max(wheel, -8), 7)
      wheel -= step
      packet.append(UInt8(truncatingIfNeeded: step))
    }
    return packet
  }
}
