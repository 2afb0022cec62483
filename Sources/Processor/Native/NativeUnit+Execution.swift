import CHost
import X86

/// The slow path of native instructions: one semantic function for all of them.
extension NativeUnit {
  /// Runs the instruction's core on a copy of its memory operand.
  ///
  /// Checks come in the order of the manual (SDM vol. 3A, 6.9): pending x87 exceptions, alignment, the segment, paging;
  /// SIMD exceptions of the operation itself last. A destination in memory is known to be writable before the
  /// instruction changes anything.
  static func execute(_ processor: SoftwareProcessor, _ op: Op) throws(GuestFault) -> Flow {
    let cpu = processor.cpu
    let traits = NativeTraits(op)
    defer { processor.endIgnoring() }
    if traits.contains(.usesX87) {
      processor.takeX87()
      if traits.contains(.waits), let flow = try processor.waitForX87(op) { return flow }
    }
    let scratch = UnsafeMutableRawPointer(cpu) + StateOffset.scratch
    let size = traits.memorySize
    var area: GuestArea?
    if size > 0 {
      let access: AccessKind = traits.contains(.writesMemory) ? .write : .read
      if traits.contains(.isAligned) { try processor.checkAlignment(op, to: size) }
      var operand = try GuestArea(processor, op, size == 10 ? .pair(8) : .whole, count: size, for: access)
      if access == .write {
        try operand.checkWritable()
        area = operand
      } else {
        try operand.read(0, into: scratch, count: size)
      }
    }
    if traits.contains(.movesPointers) { processor.recordX87(op) }
    let flags = nativeCall(cpu, scratch, op.pointee.link.unsafelyUnwrapped)
    if flags == ~0 { throw processor.simdException }
    if traits.contains(.writesFlags) { cpu.pointee.rflags = cpu.pointee.rflags & ~RFLAGS.arithmetic | flags }
    if let area, !traits.contains(.waits) || processor.hasStored(traits) {
      try area.write(0, from: scratch, count: size)
    }
    return .next
  }
}

extension SoftwareProcessor {
  /// #XM, or #UD for an operating system that has not asked for it. The flags are in MXCSR.
  fileprivate var simdException: GuestFault {
    cpu.pointee.cr4 & CR4.osxmmexcpt != 0 ? .exception(.simdFloatingPoint, errorCode: 0) : .invalidOpcode
  }
}
