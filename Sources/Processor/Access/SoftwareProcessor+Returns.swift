import CHost
import X86

/// What IRET and far RET share: checks of the code and stack segments that a frame names, and what a change to an outer
/// ring takes away.
extension SoftwareProcessor {
  /// The descriptor of a code segment to return to: #GP and #NP (SDM vol. 2A, IRET; vol. 2B, RET).
  @inline(__always)
  func readReturnCode(_ selector: UInt16) throws(GuestFault) -> Descriptor {
    guard selector & 0xfffc != 0 else { throw .generalProtection() }
    let fault = GuestFault.generalProtection(selectorError(selector))
    let code = try readDescriptor(selector, orThrow: fault)
    let rpl = UInt8(truncatingIfNeeded: selector & 3)
    guard code.isCode, rpl >= cpu.pointee.cpl, code.isConforming ? code.dpl <= rpl : code.dpl == rpl,
      !(isLongMode && code.isLong && code.isBig)
    else { throw fault }
    guard code.isPresent else { throw .segmentNotPresent(selectorError(selector)) }
    return code
  }

  /// The descriptor of the stack segment of an outer ring: #GP and #SS.
  @inline(__always)
  func readReturnStack(_ selector: UInt16, ring: UInt8) throws(GuestFault) -> Descriptor {
    guard selector & 0xfffc != 0 else { throw .generalProtection() }
    let fault = GuestFault.generalProtection(selectorError(selector))
    let stack = try readDescriptor(selector, orThrow: fault)
    guard selector & 3 == UInt16(ring), stack.isWritableData, stack.dpl == ring else { throw fault }
    guard stack.isPresent else { throw .stackFault(selectorError(selector)) }
    return stack
  }

  /// Loads SS and as much of RSP as the new stack is wide.
  func switchToOuterStack(_ segment: SegmentState, _ pointer: UInt64) {
    cpu.pointee.segments.2 = segment
    if segment.attributes & SegmentAttributes.big != 0 {
      cpu.pointee.gpr.4 = pointer & 0xffff_ffff
    } else {
      cpu.pointee.gpr.4 = cpu.pointee.gpr.4 & ~0xffff | pointer & 0xffff
    }
  }

  /// Takes segments away that CPL, which has just become greater, has no right to.
  @inline(__always)
  func dropInnerSegments() {
    dropIfInner(&cpu.pointee.segments.0)
    dropIfInner(&cpu.pointee.segments.3)
    dropIfInner(&cpu.pointee.segments.4)
    dropIfInner(&cpu.pointee.segments.5)
  }

  /// Of null selectors, which have four values, 0 remains. FS and GS may have bases all the same, and so may those that
  /// become null here: only selector and attributes go.
  @inline(__always)
  private func dropIfInner(_ state: inout SegmentState) {
    guard state.attributes & SegmentAttributes.present != 0 else {
      if state.selector <= 3 { state.selector = 0 }
      return
    }
    let conforming = SegmentAttributes.code | SegmentAttributes.conformingExpandDown
    guard state.attributes & conforming != conforming, state.attributes >> 5 & 3 < UInt16(cpu.pointee.cpl) else {
      return
    }
    state = SegmentState(base: state.base, limit: 0, selector: 0, attributes: 0)
  }
}
