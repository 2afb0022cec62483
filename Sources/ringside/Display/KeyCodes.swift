/// Keys of a US keyboard by their scan codes of set 2 (IBM Personal System/2 Hardware Interface Technical Reference,
/// "Keyboards"). A code above 0xff has 0xe0 before it.
enum KeyCodes {
  static let shift: UInt8 = 0x12

  static let modifiers: [String: UInt8] = ["ctrl": 0x14, "alt": 0x11, "shift": shift]

  static let named: [String: UInt16] = [
    "enter": 0x5a, "esc": 0x76, "tab": 0x0d, "backspace": 0x66, "space": 0x29, "f1": 0x05, "f2": 0x06, "f3": 0x04,
    "f4": 0x0c, "f5": 0x03, "f6": 0x0b, "f7": 0x83, "f8": 0x0a, "f9": 0x01, "f10": 0x09, "f11": 0x78, "f12": 0x07,
    "up": 0xe075, "down": 0xe072, "left": 0xe06b, "right": 0xe074, "home": 0xe06c, "end": 0xe069, "pageup": 0xe07d,
    "pagedown": 0xe07a, "insert": 0xe070, "delete": 0xe071,
  ]

  /// Rows of characters without and with shift, and their keys.
  private static let rows: [(plain: String, shifted: String, codes: [UInt16])] = [
    (
      "`1234567890-=", "~!@#$%^&*()_+",
      [0x0e, 0x16, 0x1e, 0x26, 0x25, 0x2e, 0x36, 0x3d, 0x3e, 0x46, 0x45, 0x4e, 0x55]
    ),
    (
      "qwertyuiop[]\\", "QWERTYUIOP{}|",
      [0x15, 0x1d, 0x24, 0x2d, 0x2c, 0x35, 0x3c, 0x43, 0x44, 0x4d, 0x54, 0x5b, 0x5d]
    ),
    ("asdfghjkl;'", "ASDFGHJKL:\"", [0x1c, 0x1b, 0x23, 0x2b, 0x34, 0x33, 0x3b, 0x42, 0x4b, 0x4c, 0x52]),
    ("zxcvbnm,./", "ZXCVBNM<>?", [0x1a, 0x22, 0x21, 0x2a, 0x32, 0x31, 0x3a, 0x41, 0x49, 0x4a]),
  ]

  private static let characters: [Character: (code: UInt16, isShifted: Bool)] = {
    var keys: [Character: (code: UInt16, isShifted: Bool)] = [
      " ": (0x29, false), "\n": (0x5a, false), "\t": (0x0d, false),
    ]
    for row in rows {
      for (character, code) in zip(row.plain, row.codes) { keys[character] = (code, false) }
      for (character, code) in zip(row.shifted, row.codes) { keys[character] = (code, true) }
    }
    return keys
  }()

  /// The key with this character, and whether shift goes with it.
  static func key(for character: Character) -> (code: UInt16, isShifted: Bool)? { characters[character] }

  /// What a keyboard sends when a key is pressed and let go while others are held.
  static func press(_ code: UInt16, with modifiers: [UInt8]) -> [UInt8] {
    let prefix: [UInt8] = code > 0xff ? [0xe0] : []
    let key = UInt8(truncatingIfNeeded: code)
    return modifiers + prefix + [key] + prefix + [0xf0, key] + modifiers.reversed().flatMap { [0xf0, $0] }
  }
}
