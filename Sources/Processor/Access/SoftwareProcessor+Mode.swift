import CHost
import X86

/// What is derived from the processor's mode.
extension SoftwareProcessor {
  /// To be called after any change of CPL, RFLAGS (TF, AC, VM), CR0, CR3, CR4, EFER, XCR0 or DR7, and of segment registers
  /// but for the bases of FS and GS in 64-bit mode: brings the TLB table, the block cache, the code mode and what translated
  /// code knows of segments in line. Cheap. Flushing is the changer's own affair.
  func modeChanged() {
    let context: TranslationCache.Context
    if cpu.pointee.cpl == 3 {
      context = .user
    } else if cpu.pointee.rflags & RFLAGS.ac != 0, cpu.pointee.cr4 & CR4.smap != 0 {
      context = .supervisorWithAC
    } else {
      context = .supervisor
    }
    cpu.pointee.engine.tlb = checksAlignment ? translations.emptyTable : translations.table(context)
    cpu.pointee.engine.blockCache = translations.blocks
    let mode = codeMode
    // Blocks are found by RIP, so where CS has a base it is part of the key.
    if mode.contains(.flat) {
      cpu.pointee.engine.blockKey = mode.rawValue
    } else {
      cpu.pointee.engine.blockKey = mode.rawValue | cpu.pointee.segments.1.base &<< 32
      translations.bringCodeLimit(cpu.pointee.segments.1.limit)
    }
    if let translator, !mode.contains(.code64) { bringBounds(to: translator) }
    // Single instructions are the outer loop's business.
    if mode.contains(.stepping) { cpu.pointee.engine.stopReason |= StopReason.serialize }
  }

  /// Whether data accesses of the running code that are not aligned fault (SDM vol. 3A, 6.15, #AC).
  @inline(__always) var checksAlignment: Bool {
    cpu.pointee.rflags & RFLAGS.ac != 0 && cpu.pointee.cpl == 3 && cpu.pointee.cr0 & CR0.am != 0
  }

  /// The mode that code at CS:RIP is decoded under.
  var codeMode: CodeMode {
    var mode: CodeMode = []
    if isLongMode64 {
      mode = [.code64, .flat]
    } else {
      if cpu.pointee.segments.1.attributes & SegmentAttributes.big != 0 { mode.insert(.code32) }
      if cpu.pointee.segments.2.attributes & SegmentAttributes.big != 0 { mode.insert(.stack32) }
      if usesParagraphs { mode.insert(.paragraphs) }
      if isFlat {
        mode.insert(.flat)
        // Beyond 4 GiB, where a base may lead, the TLB of the legacy modes has nothing.
        if cpu.pointee.efer & EFER.lma == 0 {
          if isOpen(segment(SegmentRegister.fs)) { mode.insert(.openFS) }
          if isOpen(segment(SegmentRegister.gs)) { mode.insert(.openGS) }
        }
      }
    }
    if cpu.pointee.cpl != 0 { mode.insert(.unprivileged) }
    let cr0 = cpu.pointee.cr0
    let cr4 = cpu.pointee.cr4
    if cr0 & (CR0.em | CR0.ts) == 0 {
      mode.insert(.x87)
      if cr4 & CR4.osfxsr != 0 { mode.insert(.sse) }
    }
    if cr0 & CR0.ts == 0, cr4 & CR4.osxsave != 0, cpu.pointee.xcr0 & 6 == 6, isProtectedMode, !isVirtual8086 {
      mode.insert(.avx)
    }
    if cpu.pointee.rflags & RFLAGS.tf != 0 || cpu.pointee.dr7 & 0xff != 0 { mode.insert(.stepping) }
    return mode
  }

  /// Whether the code is of 32 bits and segmentation of code, data and stack has no effect.
  private var isFlat: Bool {
    guard isProtectedMode, !isVirtual8086, cpu.pointee.segments.1.attributes & SegmentAttributes.big != 0 else {
      return false
    }
    for register in [SegmentRegister.es, .ss, .ds] {
      let state = segment(register)
      guard state.base == 0, isOpen(state) else { return false }
    }
    let code = segment(SegmentRegister.cs)
    let needed = SegmentAttributes.present | SegmentAttributes.readWrite
    return code.base == 0 && code.limit == 0xffff_ffff && code.attributes & needed == needed
  }

  /// Whether a data segment refuses nothing.
  private func isOpen(_ state: SegmentState) -> Bool {
    let needed = SegmentAttributes.present | SegmentAttributes.readWrite
    let unwanted = SegmentAttributes.code | SegmentAttributes.conformingExpandDown
    return state.limit == 0xffff_ffff && state.attributes & (needed | unwanted) == needed
  }
}
