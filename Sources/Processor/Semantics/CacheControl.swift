import CHost
import CZydis
import X86

/// INVLPG, INVPCID, INVD, WBINVD (Zydis has WBNOINVD as one too) and SERIALIZE; the MPX instructions, which do nothing where there is no MPX.
enum CacheControl {
  static let rows: [InstructionRow] =
    [
      InstructionRow(ZYDIS_MNEMONIC_INVLPG, [.endsBlock, .privileged], invalidatePage),
      InstructionRow(ZYDIS_MNEMONIC_INVPCID, [.endsBlock, .privileged], invalidateContext),
      InstructionRow(ZYDIS_MNEMONIC_INVD, .privileged, Miscellaneous.nothing),
      InstructionRow(ZYDIS_MNEMONIC_WBINVD, .privileged, Miscellaneous.nothing),
      InstructionRow(ZYDIS_MNEMONIC_SERIALIZE, Miscellaneous.fence),
    ]
    + [
      ZYDIS_MNEMONIC_BNDCL, ZYDIS_MNEMONIC_BNDCN, ZYDIS_MNEMONIC_BNDCU, ZYDIS_MNEMONIC_BNDLDX, ZYDIS_MNEMONIC_BNDMK,
      ZYDIS_MNEMONIC_BNDMOV, ZYDIS_MNEMONIC_BNDSTX,
    ].map { InstructionRow($0, Miscellaneous.nothing) }

  /// The address is not checked in any way; one that is not canonical invalidates nothing.
  static func invalidatePage(_ processor: SoftwareProcessor, _ op: Op) throws(GuestFault) -> Flow {
    var address = processor.effectiveAddress(op)
    let number = Int(op.pointee.segmentRegister)
    if !processor.isLongMode64 || number >= SegmentRegister.fs.rawValue { address &+= processor.segment(number).base }
    processor.translations.flush(page: processor.linear(address))
    return processor.continueBehind(op)
  }

  /// SDM vol. 2A, INVPCID. The descriptor is the PCID, which is below 4096, and a linear address.
  static func invalidateContext(_ processor: SoftwareProcessor, _ op: Op) throws(GuestFault) -> Flow {
    let cpu = processor.cpu
    guard !processor.isVirtual8086 else { throw .generalProtection() }
    let type =
      processor.isLongMode64
      ? processor.register(op.pointee.destination, as: UInt64.self)
      : UInt64(processor.register(op.pointee.destination, as: UInt32.self))
    let location = try processor.operandAddress(op, count: 16, for: .read)
    let pcid = try processor.load(location, as: UInt64.self)
    let address = try processor.load(location &+ 8, as: UInt64.self)
    let usesPCID = cpu.pointee.cr4 & CR4.pcide != 0
    guard type <= 3, pcid >> 12 == 0 else { throw .generalProtection() }
    switch type {
    case 0:
      guard processor.isCanonicalForModel(address), pcid == 0 || usesPCID else { throw .generalProtection() }
      processor.translations.flush(page: address)
    case 1:
      guard pcid == 0 || usesPCID else { throw .generalProtection() }
      if usesPCID {
        processor.translations.flush(pcid: pcid)
      } else {
        processor.translations.flushAll(keepingGlobal: true)
      }
    default:
      processor.translations.flushAll(keepingGlobal: type == 3)
    }
    return processor.continueBehind(op)
  }
}
