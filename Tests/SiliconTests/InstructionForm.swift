import CSilicon
import CZydis

/// One instruction with one shape of operands under one opcode: "add r/m32, imm8 by 83" is a form.
///
/// Forms are found, not written down: `FormCatalogue` decodes every opcode. An instance of a form is made by filling
/// its free fields at random (see `CaseGenerator`).
struct InstructionForm {
  /// What makes two encodings the same form. Prefixes and register numbers do not.
  struct Key: Hashable {
    let mnemonic: UInt32
    /// Visible operands, 16 bits each: kind, size in bits and register class.
    let shape: UInt64
    let isVEX: Bool
    let map: UInt8
    let opcode: UInt8
    let hasMemory: Bool
    let isRepeated: Bool
  }

  /// Encodings that differ in ModRM alone.
  struct Group {
    /// 66h, F2h, F3h or none; under VEX their numbers 1, 3, 2.
    let prefix: UInt8
    let isWide: Bool
    let isLong: Bool
    /// ModRM bytes; with memory only the reg field matters. Empty: the form has none.
    var modRM: [UInt8]
  }

  let key: Key
  let mode: SiliconMode
  var groups: [Group]

  var mnemonic: ZydisMnemonic { ZydisMnemonic(rawValue: key.mnemonic) }

  /// For reports: mnemonic, mode, opcode.
  var description: String {
    let name = ZydisMnemonicGetString(mnemonic).map { String(cString: $0) } ?? "?"
    let maps = ["", "0f ", "0f38 ", "0f3a "]
    let opcode = String(key.opcode, radix: 16)
    return "\(name) (\(mode.name), \(key.isVEX ? "vex " : "")\(maps[Int(key.map)])\(opcode))"
  }
}
