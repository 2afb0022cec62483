import CHost
import Glibc
import X86

/// The first 512 bytes of FXSAVE and XSAVE areas: x87, MXCSR, XMM registers.
extension SoftwareProcessor {
  /// The state's own area.
  var stateArea: UnsafeMutableRawPointer { UnsafeMutableRawPointer(cpu) + StateOffset.xsave }

  /// Bytes of the XMM registers that the code's mode has.
  private var vectorBytes: Int { isLongMode64 ? 256 : 128 }

  /// x87 state: bytes 0 to 23 and 32 to 159. `isWide`: 64-bit pointers (REX.W), otherwise 32-bit ones and selectors.
  /// `storeX87` has been called.
  func saveX87(_ area: GuestArea, isWide: Bool) throws(GuestFault) {
    // FCW, FSW, FTW and FOP; then FIP and FDP.
    let head = stateArea.load(as: UInt64.self) & 0x0000_00ff_ffff_ffff
    try area.store(head | UInt64(cpu.pointee.fpuOpcode & 0x7ff) << 48, XSaveArea.control)
    try area.store(
      imagePointer(cpu.pointee.fpuInstructionPointer, cpu.pointee.fpuCodeSegment, isWide), XSaveArea.instructionPointer)
    try area.store(imagePointer(cpu.pointee.fpuDataPointer, cpu.pointee.fpuDataSegment, isWide), XSaveArea.dataPointer)
    try area.write(XSaveArea.st, from: stateArea + XSaveArea.st, count: 128)
  }

  private func imagePointer(_ offset: UInt64, _ selector: UInt16, _ isWide: Bool) -> UInt64 {
    isWide ? offset : offset & 0xffff_ffff | UInt64(selector) << 32
  }

  /// MXCSR and MXCSR_MASK.
  func saveMXCSR(_ area: GuestArea) throws(GuestFault) {
    try area.store(UInt64(nativeMXCSR()) | UInt64(NativeMXCSRMask) << 32, XSaveArea.mxcsr)
  }

  func saveXMM(_ area: GuestArea) throws(GuestFault) {
    try area.write(XSaveArea.xmm, from: stateArea + XSaveArea.xmm, count: vectorBytes)
  }

  /// Makes x87 state of 160 bytes in a legacy region's format the processor's.
  func setX87(from image: UnsafeRawPointer, isWide: Bool) {
    forgetX87()
    let head = image.loadUnaligned(as: UInt64.self)
    // Of the control word's reserved bits 6 is always set and the others never. The status word's ES and B follow from its
    // exceptions and the masks.
    let isPending = head >> 16 & ~head & 0x3f != 0
    stateArea.storeBytes(
      of: head & 0x0000_00ff_7f7f_1f3f | 0x40 | (isPending ? 0x8080_0000 : 0), as: UInt64.self)
    cpu.pointee.fpuOpcode = UInt16(truncatingIfNeeded: head >> 48) & 0x7ff
    let code = image.loadUnaligned(fromByteOffset: XSaveArea.instructionPointer, as: UInt64.self)
    let data = image.loadUnaligned(fromByteOffset: XSaveArea.dataPointer, as: UInt64.self)
    cpu.pointee.fpuInstructionPointer = isWide ? code : code & 0xffff_ffff
    cpu.pointee.fpuCodeSegment = isWide ? 0 : UInt16(truncatingIfNeeded: code >> 32)
    cpu.pointee.fpuDataPointer = isWide ? data : data & 0xffff_ffff
    cpu.pointee.fpuDataSegment = isWide ? 0 : UInt16(truncatingIfNeeded: data >> 32)
    (stateArea + XSaveArea.st).copyMemory(from: image + XSaveArea.st, byteCount: 128)
  }

  /// x87 state as after FNINIT, with empty registers all zero.
  func initializeX87() {
    forgetX87()
    memset(stateArea, 0, XSaveArea.mxcsr)
    stateArea.storeBytes(of: XSaveArea.initialControl, as: UInt16.self)
    memset(stateArea + XSaveArea.st, 0, 128)
    cpu.pointee.fpuOpcode = 0
    cpu.pointee.fpuInstructionPointer = 0
    cpu.pointee.fpuCodeSegment = 0
    cpu.pointee.fpuDataPointer = 0
    cpu.pointee.fpuDataSegment = 0
  }

  /// Replaces the XMM registers that the code's mode has; with zeros if `image` is nil.
  func setXMM(from image: UnsafeRawPointer?) {
    setVectors(XSaveArea.xmm, image)
  }

  /// Replaces the upper halves of the YMM registers that the code's mode has.
  func setYMMHigh(from image: UnsafeRawPointer?) {
    setVectors(XSaveArea.ymmHigh, image)
  }

  private func setVectors(_ offset: Int, _ image: UnsafeRawPointer?) {
    if let image {
      (stateArea + offset).copyMemory(from: image, byteCount: vectorBytes)
    } else {
      memset(stateArea + offset, 0, vectorBytes)
    }
  }

  func saveYMMHigh(_ area: GuestArea) throws(GuestFault) {
    try area.write(XSaveArea.ymmHigh, from: stateArea + XSaveArea.ymmHigh, count: vectorBytes)
  }

  /// Components of `stateArea` (and PKRU) that are not in their initial configuration (SDM vol. 1, 13.6). MXCSR does not
  /// count. `storeX87` has been called.
  var componentsInUse: UInt64 {
    var components: UInt64 = 0
    let isX87Initial =
      stateArea.load(as: UInt64.self) & 0x0000_00ff_ffff_ffff == UInt64(XSaveArea.initialControl)
      && cpu.pointee.fpuInstructionPointer | cpu.pointee.fpuDataPointer == 0 && cpu.pointee.fpuOpcode == 0
      && isZero(XSaveArea.st, count: 128)
    if !isX87Initial { components |= XSaveArea.Component.x87 }
    if !isZero(XSaveArea.xmm, count: 256) { components |= XSaveArea.Component.sse }
    if !isZero(XSaveArea.ymmHigh, count: 256) { components |= XSaveArea.Component.avx }
    if cpu.pointee.pkru != 0 { components |= XSaveArea.Component.pkru }
    return components
  }

  private func isZero(_ offset: Int, count: Int) -> Bool {
    var bits = SIMD4<UInt64>()
    for place in stride(from: offset, to: offset + count, by: 32) {
      bits |= stateArea.loadUnaligned(fromByteOffset: place, as: SIMD4<UInt64>.self)
    }
    return bits == .zero
  }
}
