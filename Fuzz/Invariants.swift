import CHost
import X86

/// What must hold of a processor's state whenever its engine gives it away, whatever the guest did.
enum Invariants {
  /// The first invariant that does not hold; nil if all do.
  static func violation(_ cpu: CPUState) -> String? {
    flags(cpu) ?? controls(cpu) ?? segments(cpu) ?? addresses(cpu) ?? units(cpu)
  }

  private static func flags(_ cpu: CPUState) -> String? {
    if cpu.zero != 0 { return "the zero register is not zero" }
    if cpu.rflags & RFLAGS.fixed == 0 { return "RFLAGS bit 1 is clear" }
    if cpu.rflags & ~0x3f_7fd7 != 0 { return "RFLAGS has reserved bits" }
    if cpu.rflags & RFLAGS.vm != 0, cpu.cr0 & CR0.pe == 0 || cpu.efer & EFER.lma != 0 {
      return "RFLAGS.VM is set outside protected mode"
    }
    if cpu.cr8 > 15 { return "CR8 is larger than 15" }
    if cpu.dr7 >> 32 != 0 || cpu.dr7 & 0x400 == 0 { return "DR7 has reserved bits" }
    if cpu.dr6 >> 32 != 0 || cpu.dr6 & 0xff0 != 0xff0 { return "DR6 has reserved bits" }
    return nil
  }

  private static func controls(_ cpu: CPUState) -> String? {
    if cpu.cr0 & CR0.pg != 0, cpu.cr0 & CR0.pe == 0 { return "CR0 has PG without PE" }
    if cpu.cr0 & CR0.nw != 0, cpu.cr0 & CR0.cd == 0 { return "CR0 has NW without CD" }
    if cpu.cr0 >> 32 != 0 || cpu.cr0 & CR0.et == 0 { return "CR0 has reserved bits" }
    let isLong = cpu.efer & EFER.lma != 0
    if isLong != (cpu.efer & EFER.lme != 0 && cpu.cr0 & CR0.pg != 0) { return "EFER.LMA is not LME and PG" }
    if isLong, cpu.cr4 & CR4.pae == 0 { return "IA-32e mode without CR4.PAE" }
    if cpu.cr4 & CR4.pcide != 0, !isLong { return "CR4.PCIDE outside IA-32e mode" }
    if cpu.xcr0 & 1 == 0 || cpu.xcr0 & 6 == 4 { return "XCR0 is not possible" }
    return nil
  }

  private static func segments(_ cpu: CPUState) -> String? {
    let isVirtual = cpu.rflags & RFLAGS.vm != 0
    let expected: UInt8 =
      cpu.cr0 & CR0.pe == 0 ? 0 : isVirtual ? 3 : UInt8(cpu.segments.2.attributes >> 5 & 3)
    // After a failed switch of tasks there is no stack segment.
    let hasStack = cpu.segments.2.attributes != 0
    if cpu.cpl != expected, hasStack { return "CPL is \(cpu.cpl), and SS.DPL \(expected)" }
    let code = cpu.segments.1.attributes
    if cpu.efer & EFER.lma != 0, code & SegmentAttributes.long != 0, code & SegmentAttributes.big != 0 {
      return "CS has L and D"
    }
    return nil
  }

  private static func addresses(_ cpu: CPUState) -> String? {
    let isLong = cpu.efer & EFER.lma != 0
    guard isLong, cpu.segments.1.attributes & SegmentAttributes.long != 0 else {
      if cpu.rip >> 32 != 0 { return "RIP is \(String(cpu.rip, radix: 16)) outside 64-bit mode" }
      for segment in [cpu.segments.0, cpu.segments.1, cpu.segments.2, cpu.segments.3] where segment.base >> 32 != 0 {
        return "a segment base has more than 32 bits outside 64-bit mode"
      }
      return nil
    }
    // The instruction before the hole may have been the last one; and AMD's SYSRET does not look at where it returns to.
    let isReturn = cpu.cpl == 3 && cpu.rip == cpu.gpr.1
    if !isCanonical(cpu.rip, cpu), !isCanonical(cpu.rip &- 15, cpu), !isReturn { return "RIP is not canonical" }
    // WRMSR goes by what the processor could do, with five levels of paging.
    for segment in [cpu.segments.4, cpu.segments.5] where !isCanonical(segment.base, unused: 7) {
      return "a segment base is \(String(segment.base, radix: 16))"
    }
    return nil
  }

  private static func isCanonical(_ address: UInt64, _ cpu: CPUState) -> Bool {
    isCanonical(address, unused: cpu.cr4 & CR4.la57 != 0 ? 7 : 16)
  }

  private static func isCanonical(_ address: UInt64, unused: Int64) -> Bool {
    (Int64(bitPattern: address) << unused) >> unused == Int64(bitPattern: address)
  }

  private static func units(_ cpu: CPUState) -> String? {
    withUnsafeBytes(of: cpu.xsave) { area in
      if area.load(fromByteOffset: 24, as: UInt32.self) >> 16 != 0 { return "MXCSR has reserved bits" }
      if area.load(fromByteOffset: 512, as: UInt64.self) != 7 { return "the XSAVE header does not name all state" }
      for place in stride(from: 520, to: 576, by: 8) where area.load(fromByteOffset: place, as: UInt64.self) != 0 {
        return "the XSAVE header has reserved bits"
      }
      return nil
    }
  }
}
