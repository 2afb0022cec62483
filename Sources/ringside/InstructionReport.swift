import Processor

/// What `ringside isa` prints.
enum InstructionReport {
  /// All of one mnemonic.
  static func text(_ description: InstructionDescription) -> String {
    var lines = [
      description.mnemonic,
      "  flags read       \(list(description.flagsRead))",
      "  flags written    \(list(description.flagsWritten))",
      "  flags undefined  \(list(description.flagsUndefined))",
    ]
    if let sensitivity = description.sensitivity {
      lines.append("  sensitive        \(sensitivity.name): \(sensitivity.reason)")
    }
    lines.append("")
    let head = ["OPERANDS", "CODE", "CARRIED OUT BY", "ROW", "RULES", "SET", "NEEDS", "MODELS"]
    return lines.joined(separator: "\n") + "\n" + table([head] + description.forms.map(row))
  }

  private static func row(_ form: InstructionDescription.Form) -> [String] {
    let code = [form.isInCode32 ? "16/32" : nil, form.isInCode64 ? "64" : nil].compactMap { $0 }
    let rules = [form.isPrivileged ? "CPL 0" : nil, form.endsBlock ? "ends block" : nil].compactMap { $0 }
    let executor =
      switch form.execution {
      case .chainHandler: "chain handler"
      case .semanticFunction: "semantic function"
      case .nativeUnit: "native unit"
      case .nothing: "nothing: #UD"
      }
    return [
      form.operands.isEmpty ? "-" : form.operands, code.joined(separator: " "), executor, form.family ?? "-",
      list(rules), form.instructionSet, form.gate ?? "-",
      form.models.count == CPUSpecification.modelNames.count ? "all" : list(form.models),
    ]
  }

  /// The sensitive instructions, and what each engine makes of them.
  static var sensitive: String {
    let head =
      ["INSTRUCTION", "SENSITIVE", "CPL 3", "CPL 3, UMIP", "V86, IOPL < 3", "V86, IOPL 3"]
      + EngineKind.allCases.map { $0.rawValue.uppercased() }
    let rows = SensitiveInstruction.all.map { one in
      [
        one.name, one.reason, one.user.rawValue, one.userWithUMIP.rawValue, one.virtual8086.rawValue,
        one.virtual8086IOPL3.rawValue,
      ] + EngineKind.allCases.map { $0.handling(of: one) }
    }
    return table([head] + rows)
      + """

      CPL 3 is meant with IOPL 0 and with operands that are legal there: selectors that CPL may use, gates that it may
      call. In virtual-8086 mode with CR4.VME, 16-bit popf and pushf act on VIF below IOPL 3 instead, and the task's
      redirection map decides on int n.

      'translate' puts code of its own in place of the kernel's most frequent privileged and time-telling instructions
      too, on the virtual processor's state and with the interpreter's function where more than that is to be done: cli,
      sti, 64-bit swapgs, syscall and sysret at CPL 3 and 0, rdtsc, rdtscp.

      """
  }

  private static func list(_ words: [String]) -> String { words.isEmpty ? "-" : words.joined(separator: " ") }

  /// Columns as wide as their widest cell.
  private static func table(_ rows: [[String]]) -> String {
    let widths = (rows.first ?? []).indices.map { column in rows.map { $0[column].count }.max() ?? 0 }
    return rows.map { row in
      let cells = row.enumerated().map { column, cell in
        column == row.count - 1 ? cell : cell + String(repeating: " ", count: widths[column] - cell.count)
      }
      return cells.joined(separator: "  ") + "\n"
    }.joined()
  }
}
