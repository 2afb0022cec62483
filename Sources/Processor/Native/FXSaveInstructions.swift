import CHost
import CZydis
import X86

/// FXSAVE, FXRSTOR, LDMXCSR, STMXCSR.
enum FXSaveInstructions {
  static let rows: [InstructionRow] = [
    InstructionRow(ZYDIS_MNEMONIC_FXSAVE) { (processor, op) throws(GuestFault) in
      try save(processor, op, isWide: false)
    },
    InstructionRow(ZYDIS_MNEMONIC_FXSAVE64) { (processor, op) throws(GuestFault) in
      try save(processor, op, isWide: true)
    },
    InstructionRow(ZYDIS_MNEMONIC_FXRSTOR) { (processor, op) throws(GuestFault) in
      try restore(processor, op, isWide: false)
    },
    InstructionRow(ZYDIS_MNEMONIC_FXRSTOR64) { (processor, op) throws(GuestFault) in
      try restore(processor, op, isWide: true)
    },
    InstructionRow(ZYDIS_MNEMONIC_LDMXCSR, loadMXCSR),
    InstructionRow(ZYDIS_MNEMONIC_VLDMXCSR, loadMXCSR),
    InstructionRow(ZYDIS_MNEMONIC_STMXCSR, storeMXCSR),
    InstructionRow(ZYDIS_MNEMONIC_VSTMXCSR, storeMXCSR),
  ]

  /// #NM, then the operand: #GP(0) unless aligned to 16 bytes.
  private static func area(
    _ processor: SoftwareProcessor, _ op: Op, for access: AccessKind
  ) throws(GuestFault) -> GuestArea {
    if processor.cpu.pointee.cr0 & (CR0.em | CR0.ts) != 0 { throw .deviceNotAvailable }
    let area = try GuestArea(processor, op, .extendedState, count: XSaveArea.legacySize, for: access)
    guard area.address & 15 == 0 else { throw .generalProtection() }
    return area
  }

  private static func save(_ processor: SoftwareProcessor, _ op: Op, isWide: Bool) throws(GuestFault) -> Flow {
    var area = try area(processor, op, for: .write)
    try area.checkWritable()
    processor.storeX87()
    try processor.saveX87(area, isWide: isWide)
    try processor.saveMXCSR(area)
    if !skipsXMM(processor) { try processor.saveXMM(area) }
    return .next
  }

  private static func restore(_ processor: SoftwareProcessor, _ op: Op, isWide: Bool) throws(GuestFault) -> Flow {
    let area = try area(processor, op, for: .read)
    // All of the image is read, also the end that nothing is taken from.
    try area.checkReadable()
    try area.withBytes(XSaveArea.xmm + 256) { (image) throws(GuestFault) in
      let mxcsr = image.load(fromByteOffset: XSaveArea.mxcsr, as: UInt32.self)
      guard mxcsr & ~UInt32(NativeMXCSRMask) == 0 else { throw .generalProtection() }
      nativeSetMXCSR(mxcsr)
      processor.setX87(from: image, isWide: isWide)
      if !skipsXMM(processor) { processor.setXMM(from: image + XSaveArea.xmm) }
    }
    return .next
  }

  /// EFER.FFXSR leaves the XMM registers out in 64-bit mode at CPL 0 (APM vol. 2, 11.4.4).
  private static func skipsXMM(_ processor: SoftwareProcessor) -> Bool {
    processor.cpu.pointee.efer & EFER.ffxsr != 0 && processor.isLongMode64 && processor.cpu.pointee.cpl == 0
  }

  private static func loadMXCSR(_ processor: SoftwareProcessor, _ op: Op) throws(GuestFault) -> Flow {
    let address = try processor.operandAddress(op, count: 4, for: .read)
    let value = try processor.load(address, as: UInt32.self)
    guard value & ~UInt32(NativeMXCSRMask) == 0 else { throw .generalProtection() }
    nativeSetMXCSR(value)
    return .next
  }

  private static func storeMXCSR(_ processor: SoftwareProcessor, _ op: Op) throws(GuestFault) -> Flow {
    let address = try processor.operandAddress(op, count: 4, for: .write)
    try processor.store(nativeMXCSR(), at: address)
    return .next
  }
}
