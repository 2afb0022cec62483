import CHost
import CZydis
import X86

/// The XSAVE family (SDM vol. 1, 13.7 to 13.12): x87, SSE, AVX and PKRU state; no supervisor components.
enum XSaveInstructions {
  /// What tells the saving instructions apart.
  private enum Saving {
    /// XSAVE: all that is asked for.
    case all
    /// XSAVEOPT: leaves out what is in its initial configuration.
    case used
    /// XSAVEC, XSAVES: likewise, in the compacted format.
    case compacted, supervisor
  }

  static let rows: [InstructionRow] = [
    row(ZYDIS_MNEMONIC_XSAVE, .all, isWide: false), row(ZYDIS_MNEMONIC_XSAVE64, .all, isWide: true),
    row(ZYDIS_MNEMONIC_XSAVEOPT, .used, isWide: false), row(ZYDIS_MNEMONIC_XSAVEOPT64, .used, isWide: true),
    row(ZYDIS_MNEMONIC_XSAVEC, .compacted, isWide: false), row(ZYDIS_MNEMONIC_XSAVEC64, .compacted, isWide: true),
    row(ZYDIS_MNEMONIC_XSAVES, .supervisor, isWide: false), row(ZYDIS_MNEMONIC_XSAVES64, .supervisor, isWide: true),
    row(ZYDIS_MNEMONIC_XRSTOR, restoresSupervisor: false, isWide: false),
    row(ZYDIS_MNEMONIC_XRSTOR64, restoresSupervisor: false, isWide: true),
    row(ZYDIS_MNEMONIC_XRSTORS, restoresSupervisor: true, isWide: false),
    row(ZYDIS_MNEMONIC_XRSTORS64, restoresSupervisor: true, isWide: true),
  ]

  private static func row(_ mnemonic: ZydisMnemonic, _ saving: Saving, isWide: Bool) -> InstructionRow {
    InstructionRow(mnemonic) { (processor, op) throws(GuestFault) in try save(processor, op, saving, isWide: isWide) }
  }

  private static func row(_ mnemonic: ZydisMnemonic, restoresSupervisor: Bool, isWide: Bool) -> InstructionRow {
    InstructionRow(mnemonic) { (processor, op) throws(GuestFault) in
      try restore(processor, op, isSupervisor: restoresSupervisor, isWide: isWide)
    }
  }

  /// #UD, #NM, #GP(0) for the privileged forms.
  private static func check(_ processor: SoftwareProcessor, isSupervisor: Bool) throws(GuestFault) {
    let cpu = processor.cpu
    if cpu.pointee.cr4 & CR4.osxsave == 0 { throw .invalidOpcode }
    if cpu.pointee.cr0 & CR0.ts != 0 { throw .deviceNotAvailable }
    if isSupervisor, cpu.pointee.cpl != 0 { throw .generalProtection() }
  }

  /// The requested-feature bitmap: EDX:EAX, as far as the operating system has enabled it.
  private static func requested(_ processor: SoftwareProcessor, isSupervisor: Bool) -> UInt64 {
    let mask = processor.gpr(0) & 0xffff_ffff | processor.gpr(2) << 32
    let enabled = processor.cpu.pointee.xcr0 | (isSupervisor ? processor.cpu.pointee.xss : 0)
    return mask & enabled & XSaveArea.Component.all
  }

  /// The operand: #GP(0) unless aligned to 64 bytes.
  private static func area(
    _ processor: SoftwareProcessor, _ op: Op, count: Int, for access: AccessKind
  ) throws(GuestFault) -> GuestArea {
    try processor.checkAlignment(op, to: 64)
    return try GuestArea(processor, op, .extendedState, count: count, for: access)
  }

  /// Where PKRU is in an area that holds `components`.
  private static func pkruOffset(_ components: UInt64, isCompacted: Bool) -> Int {
    isCompacted && components & XSaveArea.Component.avx == 0 ? XSaveArea.ymmHigh : XSaveArea.pkru
  }

  /// Bytes of an area that holds `components`.
  private static func size(_ components: UInt64, isCompacted: Bool) -> Int {
    if components & XSaveArea.Component.pkru != 0 {
      return pkruOffset(components, isCompacted: isCompacted) + XSaveArea.pkruSize
    }
    return XSaveArea.ymmHigh + (components & XSaveArea.Component.avx != 0 ? XSaveArea.ymmHighSize : 0)
  }

  // MARK: Saving

  private static func save(
    _ processor: SoftwareProcessor, _ op: Op, _ saving: Saving, isWide: Bool
  ) throws(GuestFault) -> Flow {
    typealias Component = XSaveArea.Component
    try check(processor, isSupervisor: saving == .supervisor)
    let requested = requested(processor, isSupervisor: saving == .supervisor)
    let isCompacted = saving == .compacted || saving == .supervisor
    let count = size(requested, isCompacted: isCompacted)
    var area = try area(processor, op, count: count, for: .write)
    try area.checkWritable()

    processor.storeX87()
    var used = requested & processor.componentsInUse
    // In the compacted format MXCSR is SSE state; in the standard format it is kept apart.
    if isCompacted, requested & Component.sse != 0, nativeMXCSR() != XSaveArea.initialMXCSR { used |= Component.sse }
    let written = saving == .all ? requested : used
    let kept: UInt64 = isCompacted ? 0 : try area.load(XSaveArea.componentBits) & ~requested

    if written & Component.x87 != 0 { try processor.saveX87(area, isWide: isWide) }
    let savesMXCSR =
      isCompacted ? written & Component.sse != 0 : requested & (Component.sse | Component.avx) != 0
    if savesMXCSR { try processor.saveMXCSR(area) }
    if written & Component.sse != 0 { try processor.saveXMM(area) }
    if written & Component.avx != 0 { try processor.saveYMMHigh(area) }
    if written & Component.pkru != 0 {
      let offset = pkruOffset(requested, isCompacted: isCompacted)
      try area.store(UInt64(processor.cpu.pointee.pkru), offset)
    }
    try area.store(kept | used, XSaveArea.componentBits)
    if isCompacted { try area.store(requested | XSaveArea.isCompacted, XSaveArea.compactionBits) }
    return .next
  }

  // MARK: Restoring

  private static func restore(
    _ processor: SoftwareProcessor, _ op: Op, isSupervisor: Bool, isWide: Bool
  ) throws(GuestFault) -> Flow {
    try check(processor, isSupervisor: isSupervisor)
    let requested = requested(processor, isSupervisor: isSupervisor)
    let enabled = processor.cpu.pointee.xcr0 | (isSupervisor ? processor.cpu.pointee.xss : 0)
    let headerEnd = XSaveArea.header + XSaveArea.headerSize
    let header = try area(processor, op, count: headerEnd, for: .read)
    let present: UInt64 = try header.load(XSaveArea.componentBits)
    let format: UInt64 = try header.load(XSaveArea.compactionBits)
    try checkHeader(header, present: present, format: format, enabled: enabled, isSupervisor: isSupervisor)

    let isCompacted = format & XSaveArea.isCompacted != 0
    let layout = isCompacted ? format : requested
    let count = size(layout & (isCompacted ? ~0 : present), isCompacted: isCompacted)
    let area = try area(processor, op, count: count, for: .read)
    try area.withBytes(count) { (image) throws(GuestFault) in
      try load(processor, image, requested, present, layout: layout, isCompacted: isCompacted, isWide: isWide)
    }
    return .next
  }

  /// #GP(0) for what an XSAVE header must not have (SDM vol. 1, 13.8 and 13.12).
  private static func checkHeader(
    _ area: GuestArea, present: UInt64, format: UInt64, enabled: UInt64, isSupervisor: Bool
  ) throws(GuestFault) {
    let isCompacted = format & XSaveArea.isCompacted != 0
    if isCompacted {
      let layout = format & ~XSaveArea.isCompacted
      guard layout & ~enabled == 0, present & ~layout == 0 else { throw .generalProtection() }
    } else {
      guard !isSupervisor, format == 0, present & ~enabled == 0 else { throw .generalProtection() }
    }
    // Bytes 16 to 23 of the header must be zero; in the compacted format all the rest too.
    let end = isCompacted ? XSaveArea.headerSize : 24
    for offset in stride(from: 16, to: end, by: 8) {
      guard try area.load(XSaveArea.header + offset, as: UInt64.self) == 0 else { throw .generalProtection() }
    }
  }

  /// Makes the requested components those of the image, or initial where it has none.
  private static func load(
    _ processor: SoftwareProcessor, _ image: UnsafeRawPointer, _ requested: UInt64, _ present: UInt64, layout: UInt64,
    isCompacted: Bool, isWide: Bool
  ) throws(GuestFault) {
    typealias Component = XSaveArea.Component
    func isPresent(_ component: UInt64) -> Bool { present & component != 0 }

    var mxcsr: UInt32?
    if isCompacted {
      if requested & Component.sse != 0, !isPresent(Component.sse) { mxcsr = XSaveArea.initialMXCSR }
      if requested & present & Component.sse != 0 {
        mxcsr = image.load(fromByteOffset: XSaveArea.mxcsr, as: UInt32.self)
      }
    } else if requested & (Component.sse | Component.avx) != 0 {
      mxcsr = image.load(fromByteOffset: XSaveArea.mxcsr, as: UInt32.self)
    }
    if let mxcsr {
      guard mxcsr & ~UInt32(NativeMXCSRMask) == 0 else { throw .generalProtection() }
      nativeSetMXCSR(mxcsr)
    }
    if requested & Component.x87 != 0 {
      if isPresent(Component.x87) {
        processor.setX87(from: image, isWide: isWide)
      } else {
        processor.initializeX87()
      }
    }
    if requested & Component.sse != 0 {
      processor.setXMM(from: isPresent(Component.sse) ? image + XSaveArea.xmm : nil)
    }
    if requested & Component.avx != 0 {
      processor.setYMMHigh(from: isPresent(Component.avx) ? image + XSaveArea.ymmHigh : nil)
    }
    if requested & Component.pkru != 0 {
      let offset = pkruOffset(layout, isCompacted: isCompacted)
      processor.setPKRU(isPresent(Component.pkru) ? image.load(fromByteOffset: offset, as: UInt32.self) : 0)
    }
  }
}
