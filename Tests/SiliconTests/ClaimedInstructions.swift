import CHost
import CZydis

@testable import Processor

/// What is compared with the silicon: every instruction that the interpreter implements, except those whose result a
/// program's environment decides.
struct ClaimedInstructions {
  let model: CPUModel

  /// `bytes` are those of the instruction that `decoder` has decoded.
  func contains(_ decoder: InstructionDecoder, _ bytes: UnsafePointer<UInt8>) -> Bool {
    let instruction = decoder.instruction
    guard !Self.excluded.contains(instruction.pointee.mnemonic.rawValue),
      model.offers(instruction.pointee.meta.isa_set), instruction.pointee.meta.branch_type != ZYDIS_BRANCH_TYPE_FAR
    else { return false }
    if isVendorSpecific(decoder, bytes) { return false }
    // The native unit has code of its own for these two.
    if [ZYDIS_MNEMONIC_VZEROALL, ZYDIS_MNEMONIC_VZEROUPPER].contains(instruction.pointee.mnemonic) { return true }
    if decoder.unit != nil, NativeFeatures.hostRuns(instruction.pointee.meta.isa_set),
      NativeForm(instruction, operands: decoder.operands, bytes: bytes) != nil
    {
      return true
    }
    let op = decoder.operands(offset: 0, number: 0)
    switch InstructionRow.OperandClass(op) {
    case .general: return InstructionTable.rowNumber(for: instruction.pointee.mnemonic, op) != nil
    default: return false
    }
  }

  /// Encodings that processors disagree about, or that Zydis reads in another way than this one.
  func isVendorSpecific(_ decoder: InstructionDecoder, _ bytes: UnsafePointer<UInt8>) -> Bool {
    let instruction = decoder.instruction
    let isLong = instruction.pointee.machine_mode == ZYDIS_MACHINE_MODE_LONG_64
    let prefixes = (0..<Int(instruction.pointee.raw.prefix_count)).map { bytes[$0] }
    let isRepeated = prefixes.contains(0xf2) || prefixes.contains(0xf3)
    switch instruction.pointee.mnemonic {
    // Registers as operands of 0F 0D: #UD on AMD, a hint to nothing on Intel.
    case ZYDIS_MNEMONIC_NOP: return instruction.pointee.opcode == 0x0d
    // AMD's LOOPE and LOOPNE take their condition from a REP prefix, if there is one.
    case ZYDIS_MNEMONIC_LOOPE, ZYDIS_MNEMONIC_LOOPNE: if isRepeated { return true }
    // With REX.B it is XCHG R8, RAX.
    case ZYDIS_MNEMONIC_PAUSE: return isLong && instruction.pointee.raw.rex.B != 0
    // W, meaningless outside 64-bit mode, is refused here.
    case ZYDIS_MNEMONIC_VPINSRD, ZYDIS_MNEMONIC_VPEXTRD: return !isLong && instruction.pointee.raw.vex.W != 0
    default: break
    }
    // Near branches with an operand-size prefix: AMD goes by it in 64-bit mode, Intel does not.
    let isNear =
      instruction.pointee.meta.branch_type == ZYDIS_BRANCH_TYPE_SHORT
      || instruction.pointee.meta.branch_type == ZYDIS_BRANCH_TYPE_NEAR
    return isLong && isNear && prefixes.contains(0x66)
  }

  private static let excluded: Set<UInt32> = Set(
    [
      // Random numbers, clocks, and what identifies the processor.
      ZYDIS_MNEMONIC_RDRAND, ZYDIS_MNEMONIC_RDSEED, ZYDIS_MNEMONIC_RDTSC, ZYDIS_MNEMONIC_RDTSCP, ZYDIS_MNEMONIC_RDPMC,
      ZYDIS_MNEMONIC_RDPID, ZYDIS_MNEMONIC_CPUID, ZYDIS_MNEMONIC_XGETBV,
      // Calls of the operating system.
      ZYDIS_MNEMONIC_SYSCALL, ZYDIS_MNEMONIC_SYSENTER, ZYDIS_MNEMONIC_INT, ZYDIS_MNEMONIC_INT1, ZYDIS_MNEMONIC_INT3,
      ZYDIS_MNEMONIC_INTO, ZYDIS_MNEMONIC_VMCALL, ZYDIS_MNEMONIC_VMMCALL,
      // Descriptor tables: the process has others than the guest, and Linux emulates some of the stores.
      ZYDIS_MNEMONIC_SGDT, ZYDIS_MNEMONIC_SIDT, ZYDIS_MNEMONIC_SLDT, ZYDIS_MNEMONIC_STR, ZYDIS_MNEMONIC_SMSW,
      ZYDIS_MNEMONIC_VERR, ZYDIS_MNEMONIC_VERW, ZYDIS_MNEMONIC_LAR, ZYDIS_MNEMONIC_LSL, ZYDIS_MNEMONIC_LDS,
      ZYDIS_MNEMONIC_LES, ZYDIS_MNEMONIC_LFS, ZYDIS_MNEMONIC_LGS, ZYDIS_MNEMONIC_LSS,
      // AMD has no SYSEXIT in long mode, but asks for the privilege first. Returns leave the segments that the test knows.
      ZYDIS_MNEMONIC_SYSEXIT, ZYDIS_MNEMONIC_IRET, ZYDIS_MNEMONIC_IRETD, ZYDIS_MNEMONIC_IRETQ,
      // Waiting for a store of somebody else.
      ZYDIS_MNEMONIC_MONITOR, ZYDIS_MNEMONIC_MWAIT, ZYDIS_MNEMONIC_MONITORX, ZYDIS_MNEMONIC_MWAITX,
    ].map { $0.rawValue })
}
