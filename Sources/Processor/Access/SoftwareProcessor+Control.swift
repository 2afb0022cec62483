import CHost
import X86

/// Changes of CR0, CR3, CR4, CR8, EFER, XCR0 and PKRU with all their rules (SDM vol. 3A, 2.5, 4.1 and 4.10.4; vol. 2B, MOV
/// to control registers). Everybody who changes one of them does it here: the setters keep translations, PDPTE registers
/// and the code mode in line. Each throws #GP(0) with nothing changed.
extension SoftwareProcessor {
  func setCR0(_ value: UInt64) throws(GuestFault) {
    let old = cpu.pointee.cr0
    let new = value & CR0.loadable | CR0.et
    guard value >> 32 == 0 else { throw .generalProtection() }
    if new & CR0.pg != 0, new & CR0.pe == 0 { throw .generalProtection() }
    if new & CR0.nw != 0, new & CR0.cd == 0 { throw .generalProtection() }
    let changed = old ^ new
    var efer = cpu.pointee.efer
    if changed & CR0.pg != 0 {
      if new & CR0.pg != 0 {
        if efer & EFER.lme != 0 {
          guard cpu.pointee.cr4 & CR4.pae != 0, cpu.pointee.segments.1.attributes & SegmentAttributes.long == 0,
            cpu.pointee.tr.attributes & 0xd != 1
          else { throw .generalProtection() }
          efer |= EFER.lma
        }
      } else {
        guard !isLongMode64, cpu.pointee.cr4 & CR4.pcide == 0 else { throw .generalProtection() }
        efer &= ~EFER.lma
      }
    }
    let usesPAE = new & CR0.pg != 0 && cpu.pointee.cr4 & CR4.pae != 0 && efer & EFER.lma == 0
    if usesPAE, changed & (CR0.pg | CR0.cd | CR0.nw) != 0 { try loadPageDirectoryPointers(cpu.pointee.cr3) }
    cpu.pointee.cr0 = new
    cpu.pointee.efer = efer
    if changed & (CR0.pg | CR0.wp | CR0.pe) != 0 {
      translations.flushAll()
      translations.select(root: addressSpaceRoot, flushes: false)
    }
    modeChanged()
  }

  func setCR3(_ value: UInt64) throws(GuestFault) {
    let usesPCID = cpu.pointee.cr4 & CR4.pcide != 0
    if isLongMode {
      let reserved = ~(model.physicalAddressMask | model.addressMaskingBits) & (usesPCID ? ~(1 << 63) : ~0)
      guard value & reserved == 0 else { throw .generalProtection() }
    } else if cpu.pointee.cr4 & CR4.pae != 0, cpu.pointee.cr0 & CR0.pg != 0 {
      try loadPageDirectoryPointers(value)
    }
    cpu.pointee.cr3 = value & ~(1 << 63)
    if usesPCID {
      if value >> 63 == 0 { translations.flush(pcid: value & 0xfff) }
      translations.select(root: addressSpaceRoot, flushes: false)
    } else {
      translations.select(root: addressSpaceRoot, flushes: true)
    }
    modeChanged()
  }

  func setCR4(_ value: UInt64) throws(GuestFault) {
    let old = cpu.pointee.cr4
    let changed = old ^ value
    guard value & ~model.controlRegister4Mask == 0 else { throw .generalProtection() }
    if isLongMode {
      guard value & CR4.pae != 0, changed & CR4.la57 == 0 else { throw .generalProtection() }
    }
    if value & ~old & CR4.pcide != 0 {
      guard isLongMode, cpu.pointee.cr3 & 0xfff == 0 else { throw .generalProtection() }
    }
    let usesPAE = cpu.pointee.cr0 & CR0.pg != 0 && value & CR4.pae != 0 && !isLongMode
    if usesPAE, changed & (CR4.pae | CR4.pge | CR4.pse | CR4.smep) != 0 {
      try loadPageDirectoryPointers(cpu.pointee.cr3)
    }
    cpu.pointee.cr4 = value
    let translating =
      CR4.pse | CR4.pae | CR4.pge | CR4.pcide | CR4.smep | CR4.smap | CR4.la57 | CR4.pke | CR4.pks
    if changed & translating != 0 {
      translations.flushAll()
      translations.select(root: addressSpaceRoot, flushes: false)
    }
    modeChanged()
  }

  /// Posts an exit when the priority is lowered: an interrupt may have been waiting for it.
  func setCR8(_ value: UInt64) throws(GuestFault) {
    guard value <= 15 else { throw .generalProtection() }
    let old = cpu.pointee.cr8
    cpu.pointee.cr8 = value
    if value < old { post(.taskPriorityChanged) }
  }

  func setEFER(_ value: UInt64) throws(GuestFault) {
    let old = cpu.pointee.efer
    guard value & ~model.extendedFeatureMask == 0 else { throw .generalProtection() }
    if (old ^ value) & EFER.lme != 0, cpu.pointee.cr0 & CR0.pg != 0 { throw .generalProtection() }
    cpu.pointee.efer = value & ~EFER.lma | old & EFER.lma
    if (old ^ value) & EFER.nxe != 0 { translations.flushAll() }
    modeChanged()
  }

  func setXCR0(_ value: UInt64) throws(GuestFault) {
    guard value & ~model.extendedStateMask == 0, value & 1 != 0, value & 6 != 4 else { throw .generalProtection() }
    cpu.pointee.xcr0 = value
    modeChanged()
  }

  /// Protection keys are part of what the TLB was filled by.
  func setPKRU(_ value: UInt32) {
    guard value != cpu.pointee.pkru else { return }
    cpu.pointee.pkru = value
    if cpu.pointee.cr4 & CR4.pke != 0 { translations.flushAll() }
  }

  /// What tells address spaces apart: the page tables' address, the PCID, or that there is no paging.
  var addressSpaceRoot: UInt64 {
    guard cpu.pointee.cr0 & CR0.pg != 0 else { return 1 << 63 }
    // How addresses are masked has no part in it: tables hold masked ones.
    let cr3 = cpu.pointee.cr3 & ~(CR3.lamU48 | CR3.lamU57)
    if cpu.pointee.cr4 & CR4.pcide != 0 { return cr3 }
    return cr3 & (isLongMode ? ~0xfff : 0xffff_ffe0)
  }

  /// Loads the PDPTE registers of PAE paging (SDM vol. 3A, 4.4.1).
  func loadPageDirectoryPointers(_ cr3: UInt64) throws(GuestFault) {
    let table = cr3 & 0xffff_ffe0
    let entries = (
      readEntry(table, size: 8), readEntry(table &+ 8, size: 8), readEntry(table &+ 16, size: 8),
      readEntry(table &+ 24, size: 8)
    )
    let reserved = ~model.physicalAddressMask | 0x1e6
    func isGood(_ entry: UInt64) -> Bool { entry & 1 == 0 || entry & reserved == 0 }
    guard isGood(entries.0), isGood(entries.1), isGood(entries.2), isGood(entries.3) else { throw .generalProtection() }
    cpu.pointee.pdpte = entries
  }

  /// Looks at A20M#, before guest code runs: translations hold addresses as they reach the bus.
  func bringAddressLines() {
    let lines: UInt64 = cpu.pointee.isA20Masked != 0 ? ~(1 << 20) : ~0
    guard lines != addressLines else { return }
    addressLines = lines
    translations.flushAll()
  }

  /// Brings everything derived from the state in line with a state that was changed from outside: reset, restore, a
  /// debugger.
  func stateChanged() {
    bringAddressLines()
    translations.flushAll()
    translations.select(root: addressSpaceRoot, flushes: true)
    events = EventState()
    replay.clear()
    modeChanged()
  }
}

extension CR0 {
  /// Bits that exist; the others are ignored.
  static let loadable: UInt64 = pe | mp | em | ts | et | ne | wp | am | nw | cd | pg
}
