import CHost
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
    + StringInstructions.rows
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
    + SystemFamilies.rows
    + X87Control.rows
    + FXSaveInstructions.rows
    + XSaveInstructions.rows
    + MaskedMoves.rows

  /// Row number of a decoded instruction; nil for what no family implements.
  static func rowNumber(for mnemonic: ZydisMnemonic, _ op: Operation) -> UInt16? {
    rowNumbers[index(mnemonic, InstructionRow.OperandClass(op))]
  }

  private static func index(_ mnemonic: ZydisMnemonic, _ operands: InstructionRow.OperandClass) -> Int {
    Int(mnemonic.rawValue) * InstructionRow.OperandClass.allCases.count + operands.rawValue
  }

  private static let rowNumbers: [UInt16?] = {
    var numbers = [UInt16?](repeating: nil, count: index(ZYDIS_MNEMONIC_MAX_VALUE, .far) + 1)
    for (number, row) in rows.enumerated() where row.mnemonic != ZYDIS_MNEMONIC_INVALID {
      let index = index(row.mnemonic, row.operands)
      precondition(numbers[index] == nil, "a mnemonic has one row for each class of operands")
      numbers[index] = UInt16(number)
    }
    return numbers
  }()

  /// A function in a structure: as a generic parameter it would be wrapped in a closure, whose count of references all
  /// processors would change twice for each instruction.
  private struct Entry {
    let function: SemanticFunction
  }

  /// The rows' functions, outside Swift's array bookkeeping: looked up once for each instruction that runs by one.
  nonisolated(unsafe) private static let entries: UnsafeMutablePointer<Entry> = {
    let entries = UnsafeMutablePointer<Entry>.allocate(capacity: rows.count)
    for (number, row) in rows.enumerated() { (entries + number).initialize(to: Entry(function: row.function)) }
    return entries
  }()

  @inline(__always) static func function(_ row: UInt16) -> SemanticFunction { entries[Int(row)].function }
}

/// The families of privilege, events and system state.
private enum SystemFamilies {
  static let rows: [InstructionRow] =
    InterruptReturn.rows
    + FarTransfers.rows
    + SystemCalls.rows
    + SegmentLoads.rows
    + DescriptorTables.rows
    + DescriptorInspection.rows
    + ControlRegisters.rows
    + ModelSpecificRegisters.rows
    + FlagsAndInterrupts.rows
    + SoftwareInterrupts.rows
    + CacheControl.rows
    + Identification.rows
    + PortInstructions.rows
}
