import CHost
import CZydis
import X86

/// How execution goes on after a semantic function.
enum Flow {
  /// With the next instruction.
  case next
  /// At `cpu.pointee.rip`, which the function has set (mode and translations unchanged, or changed through
  /// `SoftwareProcessor`'s own setters).
  case branch
  /// With the next instruction, but through the engine's outer loop: an interrupt may be taken, exits are returned,
  /// code modes are looked up anew.
  case serialize
  /// At `cpu.pointee.rip`, through the engine's outer loop.
  case branchAndSerialize
}

/// What an instruction does. `cpu.pointee.rip` is the start of the block meanwhile; the instruction's own address is
/// `processor.address(of: op)`. Throwing leaves the guest's state as it was before the instruction.
typealias SemanticFunction = @Sendable (_ processor: SoftwareProcessor, _ op: Op) throws(GuestFault) -> Flow

/// One row of the opcode tables: everything that is known of one mnemonic. Encodings, operand kinds, LOCK rules and
/// validity by mode are Zydis's knowledge; CPUID gates are `CPUModel`'s, by Zydis's ISA set.
struct InstructionRow: Sendable {
  struct Options: OptionSet, Sendable {
    let rawValue: UInt8
    /// The last instruction of its block: it branches, or what follows may have to be decoded anew.
    static let endsBlock = Options(rawValue: 1)
    /// #GP(0) unless CPL is 0. (What depends on more than CPL is the function's own business.)
    static let privileged = Options(rawValue: 2)
  }

  /// Kinds of operand for which one mnemonic means different things: MOV, PUSH and POP of segment registers, MOV of
  /// control and debug registers, JMP, CALL and RET that change CS.
  enum OperandClass: Int, CaseIterable, Sendable {
    case general, segment, control, debug, far

    init(_ op: Operation) {
      switch op.third {
      case Operation.segmentMark: self = .segment
      case Operation.controlMark: self = .control
      case Operation.debugMark: self = .debug
      case Operation.farMark: self = .far
      default: self = .general
      }
    }
  }

  let mnemonic: ZydisMnemonic
  let operands: OperandClass
  let options: Options
  let function: SemanticFunction
  /// The source file that has the row, as `Module/File.swift`: the instruction's family.
  let file: StaticString

  init(_ mnemonic: ZydisMnemonic, _ function: @escaping SemanticFunction, file: StaticString = #fileID) {
    self.init(mnemonic, [], function, file: file)
  }

  init(
    _ mnemonic: ZydisMnemonic, operands: OperandClass = .general, _ options: Options,
    _ function: @escaping SemanticFunction, file: StaticString = #fileID
  ) {
    self.mnemonic = mnemonic
    self.operands = operands
    self.options = options
    self.function = function
    self.file = file
  }
}

/// Values of `Operation.third` that tell operand classes; beyond all register offsets.
extension Operation {
  static let farMark: UInt8 = 255
  static let segmentMark: UInt8 = 254
  static let controlMark: UInt8 = 253
  static let debugMark: UInt8 = 252
}
