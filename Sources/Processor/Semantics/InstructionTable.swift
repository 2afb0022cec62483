import CZydis

/// All rows, and where to find a mnemonic's. A family adds its array here and nothing else.
enum InstructionTable {
  static let rows: [InstructionRow] =
    StringInstructions.rows
    + MultiplyDivide.rows
    + DecimalInstructions.rows
    + BitTests.rows
    + BitCounts.rows
    + DoubleShifts.rows
    + ByteOrder.rows
    + BitManipulation.rows
    + AddWithCarryExtensions.rows
    + Atomics.rows
    + StackFrames.rows
    + Loops.rows
    + Miscellaneous.rows

  /// Row number by mnemonic; nil for what no family implements (the native unit may).
  static let rowNumbers: [UInt16?] = {
    var numbers = [UInt16?](repeating: nil, count: Int(ZYDIS_MNEMONIC_MAX_VALUE.rawValue) + 1)
    for (number, row) in rows.enumerated() {
      precondition(numbers[Int(row.mnemonic.rawValue)] == nil, "a mnemonic has one row")
      numbers[Int(row.mnemonic.rawValue)] = UInt16(number)
    }
    return numbers
  }()
}
