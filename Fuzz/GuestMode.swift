import CHost
import TestSupport
import X86

/// What a guest starts in.
enum GuestMode: String, CaseIterable {
  case real
  /// Real mode with limits left over from protected mode.
  case bigReal
  case virtual8086
  case protected16
  case protected32
  /// 32-bit protected mode with bases, short limits and expand-down data.
  case segmented32
  case compatibility16
  case compatibility32
  case long64

  /// How linear addresses become physical ones.
  enum Paging: String, CaseIterable {
    case none, twoLevel, pae, fourLevel, fiveLevel
  }

  /// Default size of code.
  var codeBits: Int {
    switch self {
    case .real, .bigReal, .virtual8086, .protected16, .compatibility16: 16
    case .protected32, .segmented32, .compatibility32: 32
    case .long64: 64
    }
  }

  var isLong: Bool { self == .long64 || self == .compatibility16 || self == .compatibility32 }
  var isReal: Bool { self == .real || self == .bigReal }

  /// Size of the code of the handlers that its interrupts begin in.
  var handlerBits: Int {
    if isLong { return 64 }
    return isReal || self == .protected16 ? 16 : 32
  }

  func paging(_ random: inout SeededRandom) -> Paging {
    if isLong { return random.oneIn(3) ? .fiveLevel : .fourLevel }
    return isReal ? .none : random.pick([.none, .twoLevel, .pae])
  }

  func ring(_ random: inout SeededRandom) -> Int {
    switch self {
    case .real, .bigReal: 0
    case .virtual8086: 3
    default: random.pick([0, 0, 1, 2, 3, 3])
    }
  }
}
