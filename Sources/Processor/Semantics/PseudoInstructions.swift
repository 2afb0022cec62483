import CHost
import CZydis
import X86

/// Rows that no mnemonic selects: what the decoder puts in the place of an instruction that cannot run, and the native
/// unit's.
enum PseudoInstructions {
  static let rows: [InstructionRow] = [
    InstructionRow(ZYDIS_MNEMONIC_INVALID, .endsBlock) { (_, _) throws(GuestFault) in throw .invalidOpcode },
    InstructionRow(ZYDIS_MNEMONIC_INVALID, .endsBlock) { (_, _) throws(GuestFault) in throw .generalProtection() },
    InstructionRow(ZYDIS_MNEMONIC_INVALID, .endsBlock) { (processor, op) throws(GuestFault) in
      throw processor.unitFault(op.pointee.detail)
    },
    InstructionRow(ZYDIS_MNEMONIC_INVALID, NativeUnit.execute),
  ]

  /// Row numbers; these rows come first in `InstructionTable`.
  static let invalidOpcode: UInt16 = 0
  static let generalProtection: UInt16 = 1
  /// An execution unit is disabled; `detail` tells which.
  static let unitDisabled: UInt16 = 2
  /// An instruction that the native unit prepared.
  static let native: UInt16 = 3
}

/// Execution units that an operating system can disable.
enum ExecutionUnit: UInt16 {
  case x87, mmx, sse, avx

  func isEnabled(in mode: CodeMode) -> Bool {
    switch self {
    case .x87, .mmx: mode.contains(.x87)
    case .sse: mode.contains(.sse)
    case .avx: mode.contains(.avx)
    }
  }
}

extension SoftwareProcessor {
  /// #UD or #NM for an instruction of a disabled unit (SDM vol. 3A, 13.1 and table 9-3; vol. 2A, 2.6).
  fileprivate func unitFault(_ unit: UInt16) -> GuestFault {
    let cr0 = cpu.pointee.cr0
    let cr4 = cpu.pointee.cr4
    switch ExecutionUnit(rawValue: unit) {
    case .mmx where cr0 & CR0.em != 0: return .invalidOpcode
    case .sse where cr0 & CR0.em != 0 || cr4 & CR4.osfxsr == 0: return .invalidOpcode
    case .avx
    where cr4 & CR4.osxsave == 0 || cpu.pointee.xcr0 & 6 != 6 || !isProtectedMode || isVirtual8086:
      return .invalidOpcode
    default: return .deviceNotAvailable
    }
  }
}
