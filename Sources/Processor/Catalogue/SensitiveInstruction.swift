import CZydis

/// A sensitive but unprivileged instruction: one that reads or changes the state of the machine at every privilege
/// level without trapping, so that a monitor that runs guest code directly cannot see it (Popek and Goldberg, 1974; for x86
/// Robin and Irvine, 2000).
///
/// An engine that interprets carries each of them out on the virtual processor's own state, which is the whole remedy.
/// The translator never lets one run as it is: it leaves to the interpreter, or puts code in its place (`translation`)
/// that reads the virtual processor's state.
/// The outcomes stated here are the manual's, and the tests run every instruction against them.
public struct SensitiveInstruction: Sendable {
  public enum Outcome: String, Sendable {
    case runs
    case generalProtection = "#GP(0)"
    case invalidOpcode = "#UD"
  }

  /// As a person writes it, such as `mov sreg`.
  public let name: String
  /// Zydis's names.
  public let mnemonics: [String]
  /// What it shows, or changes other than it seems to.
  public let reason: String
  /// At CPL 3 with IOPL 0 in protected, compatibility and 64-bit mode, with operands that are legal there.
  public let user: Outcome
  /// Likewise, with CR4.UMIP set.
  public let userWithUMIP: Outcome
  /// In virtual-8086 mode without VME, below IOPL 3 and at IOPL 3.
  public let virtual8086: Outcome
  public let virtual8086IOPL3: Outcome
  private let operands: InstructionRow.OperandClass

  /// The source file of the semantic function, as `Module/File.swift`.
  public var family: String {
    let row = InstructionTable.rows.first { row in
      guard row.operands == operands, let text = ZydisMnemonicGetString(row.mnemonic) else { return false }
      return mnemonics.contains(String(cString: text))
    }
    return row?.file.description ?? ""
  }

  /// What the translator makes of it by itself, and in which forms; nil: it has no translation of its own, and the
  /// interpreter's function carries it out. As `BlockTranslation` has it.
  public var translation: String? {
    switch name {
    case "pushf": "64-bit pushfq: an image of the virtual processor's RFLAGS"
    case "iret": "iretq at CPL 0 to 64-bit code at CPL 0 or 3, with the descriptors of the last time"
    case "mov sreg": "mov r, sreg: the virtual processor's selector"
    default: nil
    }
  }

  private init(
    _ name: String, as mnemonics: [String] = [], _ reason: String,
    operands: InstructionRow.OperandClass = .general, umip: Outcome = .runs, virtual8086: Outcome = .runs,
    iopl3: Outcome? = nil
  ) {
    self.name = name
    self.mnemonics = mnemonics.isEmpty ? [name] : mnemonics
    self.reason = reason
    self.operands = operands
    user = .runs
    userWithUMIP = umip
    self.virtual8086 = virtual8086
    virtual8086IOPL3 = iopl3 ?? virtual8086
  }

  public static let all: [SensitiveInstruction] = [
    SensitiveInstruction(
      "popf", as: ["popf", "popfd", "popfq"], "leaves IF and IOPL alone, without a fault",
      virtual8086: .generalProtection,
      iopl3: .runs),
    SensitiveInstruction(
      "pushf", as: ["pushf", "pushfd", "pushfq"], "shows IF and IOPL", virtual8086: .generalProtection, iopl3: .runs),
    SensitiveInstruction("sgdt", "shows GDTR", umip: .generalProtection),
    SensitiveInstruction("sidt", "shows IDTR", umip: .generalProtection),
    SensitiveInstruction("sldt", "shows LDTR", umip: .generalProtection, virtual8086: .invalidOpcode),
    SensitiveInstruction("smsw", "shows CR0", umip: .generalProtection),
    SensitiveInstruction("str", "shows TR", umip: .generalProtection, virtual8086: .invalidOpcode),
    SensitiveInstruction("lar", "shows descriptors by CPL", virtual8086: .invalidOpcode),
    SensitiveInstruction("lsl", "shows descriptors by CPL", virtual8086: .invalidOpcode),
    SensitiveInstruction("verr", "shows descriptors by CPL", virtual8086: .invalidOpcode),
    SensitiveInstruction("verw", "shows descriptors by CPL", virtual8086: .invalidOpcode),
    SensitiveInstruction("mov sreg", as: ["mov"], "shows CPL, loads descriptors", operands: .segment),
    SensitiveInstruction("push sreg", as: ["push"], "shows CPL", operands: .segment),
    SensitiveInstruction("pop sreg", as: ["pop"], "loads descriptors by CPL", operands: .segment),
    SensitiveInstruction("call far", as: ["call"], "changes CPL through gates, pushes CS", operands: .far),
    SensitiveInstruction("jmp far", as: ["jmp"], "loads descriptors by CPL", operands: .far),
    SensitiveInstruction("ret far", as: ["ret"], "changes CPL", operands: .far),
    SensitiveInstruction("int n", as: ["int"], "goes through the IDT", virtual8086: .generalProtection, iopl3: .runs),
    SensitiveInstruction(
      "iret", as: ["iret", "iretd", "iretq"], "changes CPL; leaves IF and IOPL alone", virtual8086: .generalProtection,
      iopl3: .runs),
  ]
}
