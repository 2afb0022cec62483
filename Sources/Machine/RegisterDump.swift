import CHost
import X86

/// A processor's registers as text, for the person who must find out why a guest crashed.
public struct RegisterDump: CustomStringConvertible {
  public let description: String

  public init(_ state: CPUState, cpu: Int) {
    var lines = [Self.firstLine(state, cpu)]
    lines += Self.generalRegisters(state)
    lines += Self.segments(state)
    lines.append(
      "CR0=\(hex(state.cr0, 8)) CR2=\(hex(state.cr2)) CR3=\(hex(state.cr3)) CR4=\(hex(state.cr4, 8)) CR8=\(hex(state.cr8, 1))"
    )
    lines.append(
      "DR0=\(hex(state.dr.0)) DR1=\(hex(state.dr.1)) DR2=\(hex(state.dr.2)) DR3=\(hex(state.dr.3)) "
        + "DR6=\(hex(state.dr6, 8)) DR7=\(hex(state.dr7, 8))")
    lines.append("EFER=\(hex(state.efer, 4)) XCR0=\(hex(state.xcr0, 1)) instructions=\(state.instructionCount)")
    description = lines.joined(separator: "\n")
  }

  private static func firstLine(_ state: CPUState, _ cpu: Int) -> String {
    let flags = RFLAGS.text(state.rflags)
    return "CPU \(cpu): RIP=\(hex(state.rip)) RFLAGS=\(hex(state.rflags, 8)) [\(flags)] CPL=\(state.cpl) \(mode(state))"
  }

  private static func mode(_ state: CPUState) -> String {
    if state.cr0 & CR0.pe == 0 { return "real mode" }
    let cs = withUnsafeBytes(of: state.segments) { $0.bindMemory(to: SegmentState.self)[SegmentRegister.cs.rawValue] }
    if state.efer & EFER.lma != 0 {
      return cs.attributes & SegmentAttributes.long != 0 ? "64-bit mode" : "compatibility mode"
    }
    return state.rflags & RFLAGS.vm != 0 ? "virtual-8086 mode" : "protected mode"
  }

  private static func generalRegisters(_ state: CPUState) -> [String] {
    let names = [
      "RAX", "RCX", "RDX", "RBX", "RSP", "RBP", "RSI", "RDI", "R8 ", "R9 ", "R10", "R11", "R12", "R13", "R14", "R15",
    ]
    let values = withUnsafeBytes(of: state.gpr) { Array($0.bindMemory(to: UInt64.self)) }
    let cells = zip(names, values).map { "\($0)=\(hex($1))" }
    return stride(from: 0, to: cells.count, by: 4).map { cells[$0..<($0 + 4)].joined(separator: " ") }
  }

  private static func segments(_ state: CPUState) -> [String] {
    let values = withUnsafeBytes(of: state.segments) { Array($0.bindMemory(to: SegmentState.self)) }
    var lines = zip(["ES", "CS", "SS", "DS", "FS", "GS"], values).map { segment($0, $1) }
    lines.append(segment("LDT", state.ldtr))
    lines.append(segment("TR", state.tr))
    lines.append("GDT  base=\(hex(state.gdtr.base)) limit=\(hex(UInt64(state.gdtr.limit), 4))")
    lines.append("IDT  base=\(hex(state.idtr.base)) limit=\(hex(UInt64(state.idtr.limit), 4))")
    return lines
  }

  private static func segment(_ name: String, _ segment: SegmentState) -> String {
    let padded = name + String(repeating: " ", count: 4 - name.count)
    return "\(padded) \(hex(UInt64(segment.selector), 4)) base=\(hex(segment.base)) "
      + "limit=\(hex(UInt64(segment.limit), 8)) attributes=\(hex(UInt64(segment.attributes), 4))"
  }
}

/// Hexadecimal digits, at least so many.
private func hex(_ value: UInt64, _ digits: Int = 16) -> String {
  let text = String(value, radix: 16)
  return String(repeating: "0", count: max(0, digits - text.count)) + text
}
