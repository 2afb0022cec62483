import X86

/// Host instructions that make the arithmetic flags again, as the last guest instruction that wrote them did, from what is
/// in registers still.
///
/// A comparison is done once more. A sum or a difference is undone and done again. The result of a logical instruction is
/// tested. INC and DEC leave the carry flag, so the recipe of what came before them comes first, or the carry flag of the
/// frame. After the steps all registers have the values that they had before.
struct FlagRecipe {
  enum Step {
    /// An instruction of the primary opcode map on host registers.
    case instruction(
      opcode: UInt8, reg: Int, rm: Int, size: Int, hasByteRegister: Bool, immediate: (value: Int64, size: Int))
    /// LEA register, [register + constant].
    case add(Int32, register: Int, size: Int)
    /// BT of the frame's flags.
    case carryOfFrame
  }

  var steps: [Step]
  /// The guest's registers whose values the steps need, as bits.
  var inputs: UInt16

  /// Most steps of what comes before those of INC or DEC.
  static let longestPrefix = 4

  /// The steps need the carry flag that is in the frame.
  var needsFrame: Bool { if case .carryOfFrame = steps[0] { true } else { false } }
}

/// Where flags that are to be saved are.
enum FlagSource {
  case frame, host
  case recipe(FlagRecipe)
}
