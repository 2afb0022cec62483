/// What the tables know of one mnemonic.
public struct InstructionDescription: Sendable {
  /// What carries a form out.
  public enum Execution: Sendable, Hashable {
    /// A handler in the chain of tail calls, with the semantic function behind it for what is rare.
    case chainHandler
    /// The semantic function of its row.
    case semanticFunction
    /// The host's own vector or floating-point unit.
    case nativeUnit
    /// Nothing: #UD.
    case nothing
  }

  /// Operands of one kind and size.
  public struct Form: Sendable, Hashable {
    /// Such as `r32, m32`.
    public let operands: String
    /// Whether 64-bit code has it, and code of other sizes.
    public internal(set) var isInCode64: Bool
    public internal(set) var isInCode32: Bool
    public let execution: Execution
    /// The source file of the row, as `Module/File.swift`; nil where there is no row.
    public let family: String?
    /// #GP(0) unless CPL is 0.
    public let isPrivileged: Bool
    /// The last instruction of its block.
    public let endsBlock: Bool
    /// Zydis's name of the instruction set.
    public let instructionSet: String
    /// The feature, vendor or family that the form needs; nil: none.
    public let gate: String?
    /// Names of the models that offer it on this host.
    public let models: [String]
  }

  public let mnemonic: String
  public let forms: [Form]
  /// Names of flags: tested, written, left undefined; in the order of their bits.
  public let flagsRead: [String]
  public let flagsWritten: [String]
  public let flagsUndefined: [String]
  /// Set for a sensitive instruction.
  public let sensitivity: SensitiveInstruction?
}
