import CHost
import X86

/// Where an instruction is: RIP, and the code segment's base.
struct CodeAddress: Equatable, CustomStringConvertible {
  var offset: UInt64
  var selector: UInt16
  var base: UInt64

  /// Of the next instruction.
  init(_ state: CPUState) {
    let code = state.segments.1
    (offset, selector, base) = (state.rip, code.selector, code.base)
  }

  var linear: UInt64 { base &+ offset }

  var description: String { "\(hex(UInt64(selector), 4)):\(hex(offset))" }
}

/// Hexadecimal digits, at least so many.
func hex(_ value: UInt64, _ digits: Int = 16) -> String {
  let text = String(value, radix: 16)
  return String(repeating: "0", count: max(0, digits - text.count)) + text
}
