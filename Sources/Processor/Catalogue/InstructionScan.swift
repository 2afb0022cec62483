import CHost
import CZydis

/// Walks through the encodings that Zydis knows: every opcode of every map under each mandatory prefix and operand
/// size, with all register forms and one memory form of each ModRM group; and VEX likewise. Other prefixes and other
/// addressing forms make no other instructions that are offered; neither does EVEX.
///
/// A walk decodes about two million byte strings for each code size, which takes a fraction of a second: it serves
/// `ringside isa` and the tests that go through the whole instruction set.
struct InstructionScan {
  /// Code sizes that between them have all instructions: in flat code, with all units enabled.
  static let modes: [CodeMode] = [
    [.code32, .stack32, .flat, .x87, .sse, .avx], [.code64, .flat, .x87, .sse, .avx],
  ]

  let decoder: InstructionDecoder
  let mode: CodeMode

  /// Calls `body` for each byte string that is an instruction, while `decoder` holds it decoded. 15 bytes are readable.
  func visit(_ body: (UnsafePointer<UInt8>) -> Void) {
    withUnsafeTemporaryAllocation(of: UInt8.self, capacity: 15) { buffer in
      guard let bytes = buffer.baseAddress else { return }
      legacy(bytes, body)
      vex(bytes, body)
    }
  }

  private func visit(_ bytes: UnsafeMutablePointer<UInt8>, _ head: [UInt8], _ body: (UnsafePointer<UInt8>) -> Void) {
    for opcode in UInt8.min...UInt8.max {
      for modRM in UInt8.min...UInt8.max where modRM >= 0xc0 || modRM & 0xc7 == 0 {
        bytes.initialize(repeating: 0, count: 15)
        for (index, byte) in head.enumerated() { bytes[index] = byte }
        bytes[head.count] = opcode
        bytes[head.count + 1] = modRM
        if decoder.decode(bytes, count: 15, mode: mode) == nil { body(bytes) }
      }
    }
  }

  private func legacy(_ bytes: UnsafeMutablePointer<UInt8>, _ body: (UnsafePointer<UInt8>) -> Void) {
    var prefixes: [[UInt8]] = [[], [0x66], [0xf2], [0xf3]]
    if mode.contains(.code64) { prefixes += prefixes.map { $0 + [0x48] } }
    let maps: [[UInt8]] = [[], [0x0f], [0x0f, 0x38], [0x0f, 0x3a]]
    for prefix in prefixes {
      for map in maps { visit(bytes, prefix + map, body) }
    }
  }

  private func vex(_ bytes: UnsafeMutablePointer<UInt8>, _ body: (UnsafePointer<UInt8>) -> Void) {
    for map in UInt8(1)...3 {
      // W, vvvv (all ones: no register), L and pp.
      for fields in UInt8.min...UInt8.max where fields & 0x78 == 0x78 || fields & 0x78 == 0x70 {
        visit(bytes, [0xc4, 0xe0 | map, fields], body)
      }
    }
  }
}
