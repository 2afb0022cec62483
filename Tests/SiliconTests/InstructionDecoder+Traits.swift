import CZydis

@testable import Processor

/// What the test must know of the decoded instruction beyond its operands.
extension InstructionDecoder {
  var isString: Bool { instruction.pointee.meta.category == ZYDIS_CATEGORY_STRINGOP }

  var usesX87: Bool { instruction.pointee.meta.isa_ext == ZYDIS_ISA_EXT_X87 || unit == .mmx }

  var usesVectors: Bool { unit == .sse || unit == .avx }

  /// FXSAVE and its successors.
  var savesState: Bool {
    switch instruction.pointee.mnemonic {
    case ZYDIS_MNEMONIC_FXSAVE, ZYDIS_MNEMONIC_FXSAVE64: true
    case ZYDIS_MNEMONIC_XRSTOR, ZYDIS_MNEMONIC_XRSTOR64: false
    default: selectsComponents
    }
  }

  /// The instructions whose operand has the state components that EDX:EAX names.
  var selectsComponents: Bool {
    switch instruction.pointee.mnemonic {
    case ZYDIS_MNEMONIC_XSAVE, ZYDIS_MNEMONIC_XSAVE64, ZYDIS_MNEMONIC_XSAVEC, ZYDIS_MNEMONIC_XSAVEC64,
      ZYDIS_MNEMONIC_XSAVEOPT, ZYDIS_MNEMONIC_XSAVEOPT64, ZYDIS_MNEMONIC_XRSTOR, ZYDIS_MNEMONIC_XRSTOR64:
      true
    default: false
    }
  }

  /// What the instruction has done, and to which of its operands, when it faults is the processor's own affair: masked
  /// accesses fault or not, POPA has popped some registers.
  var leavesFaultsOpen: Bool {
    switch instruction.pointee.mnemonic {
    case ZYDIS_MNEMONIC_MASKMOVQ, ZYDIS_MNEMONIC_MASKMOVDQU, ZYDIS_MNEMONIC_VMASKMOVDQU, ZYDIS_MNEMONIC_VMASKMOVPS,
      ZYDIS_MNEMONIC_VMASKMOVPD, ZYDIS_MNEMONIC_VPMASKMOVD, ZYDIS_MNEMONIC_VPMASKMOVQ, ZYDIS_MNEMONIC_POPA,
      ZYDIS_MNEMONIC_POPAD:
      true
    default: false
    }
  }

  /// Which of several faults the instruction reports is the processor's own affair: of CMPS's two operands AMD's Zen 4 looks
  /// at the second first, Zen 5 at the first.
  var leavesFaultOrderOpen: Bool {
    switch instruction.pointee.mnemonic {
    case ZYDIS_MNEMONIC_CMPSB, ZYDIS_MNEMONIC_CMPSW, ZYDIS_MNEMONIC_CMPSQ: true
    // SSE's CMPSD has another operand.
    case ZYDIS_MNEMONIC_CMPSD: isString
    case ZYDIS_MNEMONIC_FXSAVE, ZYDIS_MNEMONIC_FXSAVE64, ZYDIS_MNEMONIC_FXRSTOR, ZYDIS_MNEMONIC_FXRSTOR64,
      ZYDIS_MNEMONIC_FNSAVE, ZYDIS_MNEMONIC_FRSTOR, ZYDIS_MNEMONIC_FNSTENV, ZYDIS_MNEMONIC_FLDENV,
      ZYDIS_MNEMONIC_BOUND:
      true
    default: selectsComponents
    }
  }

  /// Accesses memory in several parts, whose order is the processor's own affair: the address that a fault is reported
  /// at depends on it.
  var accessesInParts: Bool {
    switch instruction.pointee.mnemonic {
    case ZYDIS_MNEMONIC_ENTER, ZYDIS_MNEMONIC_PUSHA, ZYDIS_MNEMONIC_PUSHAD, ZYDIS_MNEMONIC_BOUND: return true
    default: break
    }
    return (0..<Int(instruction.pointee.operand_count)).contains {
      operands[$0].type == ZYDIS_OPERAND_TYPE_MEMORY && operands[$0].mem.type != ZYDIS_MEMOP_TYPE_AGEN
        && (operands[$0].size > (usesX87 ? 80 : 256) || operands[$0].size == 0
          || operands[$0].mem.type == ZYDIS_MEMOP_TYPE_MIB)
    }
  }
}
