/// How a memory operand is made of parts.
///
/// Every part begins at an offset modulo the address size: of a far pointer at FFFEH that is addressed with 16 bits, the
/// selector is at 0. Within a part offsets go on, as far as the segment's limit lets them. The manuals do not say so;
/// processors do it (found on AMD's Zen 4, and on the 80286 for pointers and bounds).
enum OperandParts {
  /// One part.
  case whole
  /// So many bytes, then the rest: far pointers, bounds, table registers, numbers of 80 bits.
  case pair(Int)
  /// The x87 environment's seven fields of so many bytes, then, with FSAVE, registers of 8 and 2 bytes each.
  case x87State(field: Int)
  /// The image of FXSAVE and XSAVE: fields, x87 registers by halves, vector registers.
  case extendedState

  /// Of an operand of `count` bytes, how many the parts make up that begin in the first `room`.
  func length(beginningIn room: Int, of count: Int) -> Int {
    switch self {
    case .whole: return count
    case .pair(let first): return room <= first ? first : count
    case .x87State(let field):
      let environment = 7 * field
      if room <= environment { return room.roundedUp(to: field) }
      let (register, bytes) = (room - environment).quotientAndRemainder(dividingBy: 10)
      return environment + 10 * register + (bytes == 0 ? 0 : bytes <= 8 ? 8 : 10)
    case .extendedState:
      return room.roundedUp(to: room <= 8 ? 2 : room <= XSaveArea.xmm ? 8 : 16)
    }
  }
}

extension Int {
  fileprivate func roundedUp(to unit: Int) -> Int { (self + unit - 1) / unit * unit }
}
