import CHost
import X86

/// Segment checks and the processor's mode, from the hidden parts of segment registers (SDM vol. 3A, chapter 5).
extension SoftwareProcessor {
  @inline(__always) func segment(_ register: SegmentRegister) -> SegmentState { segment(register.rawValue) }

  @inline(__always) func segment(_ number: Int) -> SegmentState {
    segmentPointer(number).pointee
  }

  @inline(__always) func setSegment(_ number: Int, _ value: SegmentState) {
    segmentPointer(number).pointee = value
  }

  @inline(__always) private func segmentPointer(_ number: Int) -> UnsafeMutablePointer<SegmentState> {
    (UnsafeMutableRawPointer(cpu) + 144 + (number & 7) &* 16).assumingMemoryBound(to: SegmentState.self)
  }

  /// IA-32e mode with CS.L: 64-bit code.
  @inline(__always) var isLongMode64: Bool {
    cpu.pointee.efer & EFER.lma != 0 && cpu.pointee.segments.1.attributes & SegmentAttributes.long != 0
  }

  @inline(__always) var isLongMode: Bool { cpu.pointee.efer & EFER.lma != 0 }

  @inline(__always) var isProtectedMode: Bool { cpu.pointee.cr0 & CR0.pe != 0 }

  @inline(__always) var isVirtual8086: Bool { cpu.pointee.rflags & RFLAGS.vm != 0 }

  /// Real-address or virtual-8086 mode: selectors are paragraphs.
  @inline(__always) var usesParagraphs: Bool { !isProtectedMode || isVirtual8086 }

  /// Default operand and address size of the code segment in bytes: 8 stands for 64-bit mode.
  var codeSize: Int {
    if isLongMode64 { return 8 }
    return cpu.pointee.segments.1.attributes & SegmentAttributes.big != 0 ? 4 : 2
  }

  /// Width of the stack pointer in bytes.
  var stackSize: Int {
    if isLongMode64 { return 8 }
    return cpu.pointee.segments.2.attributes & SegmentAttributes.big != 0 ? 4 : 2
  }

  /// The linear address of `count` bytes at `offset` of a segment, after all checks of segmentation.
  ///
  /// Throws #SS(0) for SS and #GP(0) for the others: not canonical in 64-bit mode; unusable, wrong type or beyond the
  /// limit elsewhere.
  func linearAddress(segment number: Int, offset: UInt64, count: Int, for access: AccessKind) throws(GuestFault)
    -> UInt64
  {
    let isStack = number == SegmentRegister.ss.rawValue
    if isLongMode64 {
      let address = withoutMetadata(number >= 4 ? offset &+ segment(number).base : offset)
      guard isCanonical(address), isCanonical(address &+ UInt64(truncatingIfNeeded: count &- 1)) else {
        throw isStack ? .stackFault() : .generalProtection()
      }
      return address
    }
    let state = segment(number)
    guard permits(state, access), isWithin(state, offset: offset, count: count) else {
      throw isStack ? .stackFault() : .generalProtection()
    }
    return (state.base &+ offset) & 0xffff_ffff
  }

  /// What linear-address masking makes of the address of data in 64-bit mode (SDM vol. 1, chapter 4, "Linear Address
  /// Masking"): where it is on for that half of the address space, bits 62:48 or 62:57 are replaced by copies of the one
  /// below them. Bit 63 stays, so that an address whose two ends disagree is not canonical.
  ///
  /// The TLB and the chain's handlers know masked addresses only; a pointer with metadata misses, and comes here.
  @inline(__always)
  func withoutMetadata(_ address: UInt64) -> UInt64 {
    guard model.addressMaskingBits != 0 else { return address }
    let isSupervisor = address >> 63 != 0
    let isWide: Bool
    if isSupervisor {
      guard cpu.pointee.cr4 & CR4.lamSupervisor != 0 else { return address }
      isWide = cpu.pointee.cr4 & CR4.la57 != 0
    } else {
      guard cpu.pointee.cr3 & (CR3.lamU48 | CR3.lamU57) != 0 else { return address }
      isWide = cpu.pointee.cr3 & CR3.lamU57 != 0
    }
    let unused: Int64 = isWide ? 7 : 16
    let extended = UInt64(bitPattern: (Int64(bitPattern: address) &<< unused) &>> unused)
    return extended & ~(1 << 63) | address & 1 << 63
  }

  /// Whether the segment's type allows the access.
  private func permits(_ state: SegmentState, _ access: AccessKind) -> Bool {
    if usesParagraphs { return true }
    guard state.attributes & SegmentAttributes.present != 0 else { return false }
    let isCode = state.attributes & SegmentAttributes.code != 0
    let bit = state.attributes & SegmentAttributes.readWrite != 0
    switch access {
    case .read: return !isCode || bit
    case .write: return !isCode && bit
    case .fetch: return isCode
    }
  }

  /// Whether the segment's valid offsets are those above its limit.
  private func expandsDown(_ state: SegmentState) -> Bool {
    let dataExpandDown = SegmentAttributes.code | SegmentAttributes.conformingExpandDown
    return state.attributes & dataExpandDown == SegmentAttributes.conformingExpandDown && isProtectedMode
  }

  /// Whether all bytes are inside the limit; expand-down segments are valid above it.
  func isWithin(_ state: SegmentState, offset: UInt64, count: Int) -> Bool {
    let last = offset &+ UInt64(truncatingIfNeeded: count &- 1)
    if expandsDown(state) {
      let top: UInt64 = state.attributes & SegmentAttributes.big != 0 ? 0xffff_ffff : 0xffff
      return offset > UInt64(state.limit) && last <= top
    }
    return last <= UInt64(state.limit)
  }

  /// Tells translated code where segments end. It does nothing with those that expand down.
  func bringBounds(to translator: Translator) {
    withUnsafeMutablePointer(to: &translator.frame.pointee.segments) { segments in
      segments.withMemoryRebound(to: SegmentBounds.self, capacity: 6) { bounds in
        for number in 0..<6 {
          let state = segment(number)
          let limit = expandsDown(state) ? -1 : Int64(state.limit)
          bounds[number] = SegmentBounds(
            read: permits(state, .read) ? limit : -1, write: permits(state, .write) ? limit : -1,
            base: state.base & 0xffff_ffff)
        }
      }
    }
  }
}
