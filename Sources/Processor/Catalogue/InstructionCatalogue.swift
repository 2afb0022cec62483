import CHost
import CZydis

/// What there is to know of instructions, gathered from the tables that the engine itself goes by: Zydis's encodings,
/// the rows, the selection of handlers, the native unit's list and the processor models' gates.
public enum InstructionCatalogue {
  /// Nil for a mnemonic that Zydis does not know, or that no encoding has. Mnemonics are written as Zydis does: `jnz`,
  /// `movsd`, `iretq`.
  public static func describe(_ name: String) -> InstructionDescription? {
    guard let mnemonic = mnemonic(named: name.lowercased()) else { return nil }
    var forms: [InstructionDescription.Form] = []
    var flags = (read: 0 as UInt32, written: 0 as UInt32, undefined: 0 as UInt32)
    for mode in InstructionScan.modes {
      let scan = InstructionScan(decoder: InstructionDecoder(broadest), mode: mode)
      scan.visit { bytes in
        let instruction = scan.decoder.instruction
        guard instruction.pointee.mnemonic == mnemonic else { return }
        add(form(scan, bytes), in: mode, to: &forms)
        guard let accessed = instruction.pointee.cpu_flags else { return }
        flags.read |= accessed.pointee.tested
        flags.written |= accessed.pointee.modified | accessed.pointee.set_0 | accessed.pointee.set_1
        flags.undefined |= accessed.pointee.undefined
      }
    }
    guard !forms.isEmpty else { return nil }
    return InstructionDescription(
      mnemonic: name.lowercased(), forms: forms, flagsRead: flagNames(flags.read),
      flagsWritten: flagNames(flags.written), flagsUndefined: flagNames(flags.undefined),
      sensitivity: SensitiveInstruction.all.first { $0.mnemonics.contains(name.lowercased()) })
  }

  /// Knows the newest meaning of every encoding.
  private static let broadest = CPUModel(level: .max)

  private static func mnemonic(named name: String) -> ZydisMnemonic? {
    for number in 1...ZYDIS_MNEMONIC_MAX_VALUE.rawValue {
      let mnemonic = ZydisMnemonic(rawValue: number)
      if let text = ZydisMnemonicGetString(mnemonic), String(cString: text) == name { return mnemonic }
    }
    return nil
  }

  // MARK: Forms

  private static func add(
    _ form: InstructionDescription.Form, in mode: CodeMode, to forms: inout [InstructionDescription.Form]
  ) {
    guard let same = forms.firstIndex(where: { $0.isSame(as: form) }) else { return forms.append(form) }
    if mode.contains(.code64) { forms[same].isInCode64 = true } else { forms[same].isInCode32 = true }
  }

  private static func form(_ scan: InstructionScan, _ bytes: UnsafePointer<UInt8>) -> InstructionDescription.Form {
    let decoder = scan.decoder
    let instruction = UnsafePointer(decoder.instruction)
    let op = decoder.operands(offset: 0, number: 0)
    let row = InstructionTable.rowNumber(for: instruction.pointee.mnemonic, op).map { InstructionTable.rows[Int($0)] }
    let requirement = CPUModel.requirement(of: instruction)
    return InstructionDescription.Form(
      operands: operands(decoder), isInCode64: scan.mode.contains(.code64), isInCode32: scan.mode.contains(.code32),
      execution: execution(scan, op, bytes, hasRow: row != nil), family: row?.file.description,
      isPrivileged: row?.options.contains(.privileged) ?? false, endsBlock: row?.options.contains(.endsBlock) ?? false,
      instructionSet: ZydisISASetGetString(instruction.pointee.meta.isa_set).map { String(cString: $0) } ?? "",
      gate: requirement.name,
      models: CPUModel.Level.allCases.filter { models[$0]?.meets(requirement) == true }.map(\.rawValue))
  }

  private static let models = Dictionary(
    uniqueKeysWithValues: CPUModel.Level.allCases.map { ($0, CPUModel(level: $0)) })

  /// The order is the decoder's (`SoftwareProcessor.select`).
  private static func execution(
    _ scan: InstructionScan, _ op: Operation, _ bytes: UnsafePointer<UInt8>, hasRow: Bool
  ) -> InstructionDescription.Execution {
    let decoder = scan.decoder
    let instruction = UnsafePointer(decoder.instruction)
    if decoder.unit != nil, NativeFeatures.hostRuns(instruction.pointee.meta.isa_set),
      NativeForm(instruction, operands: decoder.operands, bytes: bytes) != nil
    {
      return .nativeUnit
    }
    guard hasRow else { return .nothing }
    return HandlerSelection.handler(for: instruction.pointee.mnemonic, op, mode: scan.mode, .host) == nil
      ? .semanticFunction : .chainHandler
  }

  // MARK: Words

  private static func operands(_ decoder: InstructionDecoder) -> String {
    (0..<Int(decoder.instruction.pointee.operand_count_visible)).map { index in
      let operand = decoder.operands + index
      switch operand.pointee.type {
      case ZYDIS_OPERAND_TYPE_REGISTER: return registerClass(operand.pointee.reg.value, operand.pointee.size)
      case ZYDIS_OPERAND_TYPE_MEMORY: return operand.pointee.size == 0 ? "m" : "m\(operand.pointee.size)"
      case ZYDIS_OPERAND_TYPE_POINTER: return "ptr"
      default: return (operand.pointee.imm.is_relative != 0 ? "rel" : "imm") + "\(operand.pointee.size)"
      }
    }.joined(separator: ", ")
  }

  private static func registerClass(_ register: ZydisRegister, _ size: UInt16) -> String {
    switch ZydisRegisterGetClass(register) {
    case ZYDIS_REGCLASS_XMM: "xmm"
    case ZYDIS_REGCLASS_YMM: "ymm"
    case ZYDIS_REGCLASS_MMX: "mm"
    case ZYDIS_REGCLASS_X87: "st"
    case ZYDIS_REGCLASS_SEGMENT: "sreg"
    case ZYDIS_REGCLASS_CONTROL: "cr"
    case ZYDIS_REGCLASS_DEBUG: "dr"
    default: "r\(size)"
    }
  }

  private static func flagNames(_ bits: UInt32) -> [String] {
    let names = [
      (0, "CF"), (2, "PF"), (4, "AF"), (6, "ZF"), (7, "SF"), (8, "TF"), (9, "IF"), (10, "DF"), (11, "OF"), (12, "IOPL"),
      (14, "NT"), (16, "RF"), (17, "VM"), (18, "AC"), (19, "VIF"), (20, "VIP"), (21, "ID"),
    ]
    return names.filter { bits >> UInt32($0.0) & 1 != 0 }.map(\.1)
  }
}

extension InstructionDescription.Form {
  /// The same but for the sizes of code that have it.
  fileprivate func isSame(as other: Self) -> Bool {
    operands == other.operands && execution == other.execution && family == other.family
      && isPrivileged == other.isPrivileged && instructionSet == other.instructionSet && gate == other.gate
  }
}
