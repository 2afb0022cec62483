import ArgumentParser

/// An amount of memory as people write it: `512M`, `4G`, `1048576`.
struct MemorySize: Equatable, Comparable {
  var bytes: UInt64
  /// As it was written, for messages.
  private var text: String?

  init(bytes: UInt64) { self.bytes = bytes }

  /// Digits and a unit: K, M, G or T for powers of 1024 (`MiB` and `MB` mean the same as `M`), none for bytes. Nil for
  /// anything else.
  init?(_ text: String) {
    let digits = text.prefix { $0.isASCII && $0.isNumber }
    guard let number = UInt64(digits) else { return nil }
    var unit = text.dropFirst(digits.count).uppercased()
    for ending in ["IB", "B"] where unit.hasSuffix(ending) {
      unit.removeLast(ending.count)
      break
    }
    let shifts: [String: UInt64] = ["": 0, "K": 10, "M": 20, "G": 30, "T": 40]
    guard let shift = shifts[unit], number <= UInt64.max >> shift else { return nil }
    bytes = number << shift
    self.text = text
  }

  static func == (left: Self, right: Self) -> Bool { left.bytes == right.bytes }
  static func < (left: Self, right: Self) -> Bool { left.bytes < right.bytes }

  /// The least that a machine can have.
  static let minimum = MemorySize(bytes: 1 << 20)
  static let page = MemorySize(bytes: 4096)

  /// Why a guest cannot have so much memory on a host that has `available` bytes of it; nil: it can.
  func problem(available: UInt64) -> String? {
    if self < Self.minimum {
      return "\(given) is too little for a guest: give at least \(Self.minimum), or 512M for a comfortable Linux"
    }
    if bytes % Self.page.bytes != 0 {
      return "\(given) is not a whole number of pages: give a multiple of \(Self.page.bytes) bytes, such as 512M"
    }
    if bytes > available {
      return
        "\(given) is more than this computer has: give at most \(MemorySize(bytes: available)), which are available"
    }
    return nil
  }

  private var given: String { text ?? description }
}

extension MemorySize: CustomStringConvertible {
  /// In the largest unit that loses nothing worth having: `512M`, `1.5G`, `4096 bytes`.
  var description: String {
    guard bytes >= 1 << 20 else { return "\(bytes) bytes" }
    for (shift, unit) in [(40, "T"), (30, "G")] as [(UInt64, String)] where bytes >= 1 << shift {
      let whole = bytes >> shift
      let tenths = whole * 10 + ((bytes - whole << shift) * 10) >> shift
      return tenths % 10 == 0 ? "\(tenths / 10)\(unit)" : "\(tenths / 10).\(tenths % 10)\(unit)"
    }
    return "\(bytes >> 20)M"
  }
}

extension MemorySize: ExpressibleByArgument {
  init?(argument: String) { self.init(argument) }

  var defaultValueDescription: String { description }
}
