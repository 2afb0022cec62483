import CZydis

@testable import Processor

/// All encodings of the vector and x87 instruction sets in 64-bit mode: every opcode, prefix, W, L and register-form or
/// memory-form ModRM byte.
enum NativeForms {
  struct Form: Sendable {
    let bytes: [UInt8]
    let mnemonic: String
    let isMemory: Bool
  }

  /// Calls `body` with each valid encoding of the ISA sets that the host's units run. Memory operands are [RAX].
  static func enumerate(_ body: (Form, InstructionDecoder) throws -> Void) rethrows {
    let decoder = InstructionDecoder()
    for isVEX in [false, true] {
      for map in (isVEX ? 1 : 0)...3 {
        for prefix in 0..<4 {
          for isW in [false, true] {
            for isL in isVEX ? [false, true] : [false] {
              for opcode in 0..<256 where isOpcode(opcode, isVEX, map) {
                try forEachModRM(decoder, isVEX, map, prefix, isW, isL, UInt8(opcode), body)
              }
            }
          }
        }
      }
    }
  }

  /// Not an escape to another map, and in the first map only x87.
  private static func isOpcode(_ opcode: Int, _ isVEX: Bool, _ map: Int) -> Bool {
    if map == 0 { return opcode & 0xf8 == 0xd8 }
    return isVEX || map != 1 || (opcode != 0x38 && opcode != 0x3a)
  }

  private static func forEachModRM(
    _ decoder: InstructionDecoder, _ isVEX: Bool, _ map: Int, _ prefix: Int, _ isW: Bool, _ isL: Bool, _ opcode: UInt8,
    _ body: (Form, InstructionDecoder) throws -> Void
  ) rethrows {
    // x87 opcodes are told apart by all of a register form's ModRM byte; elsewhere registers are picked by the opcode.
    let registers = map == 0 ? Array(0..<8) : [Int(opcode ^ opcode >> 3) & 7]
    for isMemory in [false, true] {
      for register in isMemory ? [0] : registers {
        for extended in 0..<8 {
          let modrm = UInt8((isMemory ? 0 : 0xc0) | extended << 3 | register)
          // The other register numbers' high bits come from the opcode too.
          let isHigh = opcode & 1 != 0 && map != 0
          var bytes: [UInt8]
          if isVEX {
            let inverted: UInt8 = (isHigh ? 0 : 0x80) | 0x40 | (isHigh && !isMemory ? 0 : 0x20)
            let source = extended == 7 ? 0x78 : UInt8(~(extended * 2 + 3) & 15) << 3
            bytes = [0xc4, inverted | UInt8(map), (isW ? 0x80 : 0) | source | (isL ? 4 : 0) | UInt8(prefix)]
          } else {
            bytes = [[], [0x66], [0xf3], [0xf2]][prefix]
            let rex: UInt8 = 0x40 | (isW ? 8 : 0) | (isHigh ? 4 : 0) | (isHigh && !isMemory ? 1 : 0)
            if rex != 0x40 { bytes.append(rex) }
            bytes += [[], [0x0f], [0x0f, 0x38], [0x0f, 0x3a]][map]
          }
          bytes += [opcode, modrm, UInt8(0x25 + extended * 0x1b), 0, 0, 0, 0]
          guard let form = decode(decoder, bytes, isMemory: isMemory) else { continue }
          try body(form, decoder)
        }
      }
    }
  }

  private static func decode(_ decoder: InstructionDecoder, _ bytes: [UInt8], isMemory: Bool) -> Form? {
    guard decoder.decode(bytes, count: bytes.count, mode: [.code64, .flat]) == nil,
      NativeFeatures.hostRuns(decoder.instruction.pointee.meta.isa_set),
      let name = ZydisMnemonicGetString(decoder.instruction.pointee.mnemonic)
    else { return nil }
    return Form(
      bytes: Array(bytes.prefix(Int(decoder.instruction.pointee.length))), mnemonic: String(cString: name),
      isMemory: isMemory)
  }
}
