import CZydis
import X86

/// All rows, and where to find a mnemonic's. A family adds its array here and nothing else.
enum InstructionTable {
  static let rows: [InstructionRow] =
    PseudoInstructions.rows
    + ArithmeticInstructions.rows
    + MoveInstructions.rows
    + ShiftsAndRotates.rows
    + NearBranches.rows
    + StackInstructions.rows

  /// Row number by mnemonic; nil for what no family implements (the native unit may).
  static let rowNumbers: [UInt16?] = {
    var numbers = [UInt16?](repeating: nil, count: Int(ZYDIS_MNEMONIC_MAX_VALUE.rawValue) + 1)
    for (number, row) in rows.enumerated() where row.mnemonic != ZYDIS_MNEMONIC_INVALID {
      precondition(numbers[Int(row.mnemonic.rawValue)] == nil, "a mnemonic has one row")
      numbers[Int(row.mnemonic.rawValue)] = UInt16(number)
    }
    return numbers
  }()

  /// The rows' functions, outside Swift's array bookkeeping: looked up once for each instruction that runs by one.
  nonisolated(unsafe) private static let functions: UnsafeMutablePointer<SemanticFunction> = {
    let functions = UnsafeMutablePointer<SemanticFunction>.allocate(capacity: rows.count)
    for (number, row) in rows.enumerated() { (functions + number).initialize(to: row.function) }
    return functions
  }()

  @inline(__always) static func function(_ row: UInt16) -> SemanticFunction { functions[Int(row)] }
}
