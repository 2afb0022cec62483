import CHost
import X86

// Register values after power-up and INIT: SDM vol. 3A, 9.1.1 and table 9-1.

extension CPUState {
  /// Power-up. The bootstrap processor begins to run at the reset vector; others wait for a SIPI. What belongs to the
  /// engine stays as it is, and the time-stamp counter and pending intercepts are the machine's to set.
  public mutating func powerUp(isBootstrap: Bool) {
    let (engine, tscOffset, intercepts) = (engine, tscOffset, intercepts)
    self = CPUState()
    self.engine = engine
    self.tscOffset = tscOffset
    self.intercepts = intercepts
    cr0 = CR0.cd | CR0.nw | CR0.et
    xcr0 = 1
    pat = 0x0007_0406_0007_0406
    // Fast strings; branch tracing and event sampling are not available.
    miscEnable = 1 | 1 << 11 | 1 << 12
    apicBase = 0xfee0_0000 | 1 << 11 | (isBootstrap ? 1 << 8 : 0)
    withUnsafeMutableBytes(of: &xsave) { area in
      // FCW; abridged FTW: all eight registers hold zero; MXCSR. The header says that x87 and SSE state are valid.
      area.storeBytes(of: 0x0040, toByteOffset: 0, as: UInt16.self)
      area.storeBytes(of: 0xff, toByteOffset: 4, as: UInt8.self)
      area.storeBytes(of: 0x1f80, toByteOffset: 24, as: UInt32.self)
      area.storeBytes(of: 3, toByteOffset: 512, as: UInt64.self)
    }
    resetExecution(isBootstrap: isBootstrap)
  }

  /// INIT: execution starts anew; the caches' control bits, most model-specific registers and the vector state stay.
  mutating func initialize(isBootstrap: Bool) {
    cr0 = cr0 & (CR0.cd | CR0.nw) | CR0.et
    cr2 = 0
    cr3 = 0
    cr4 = 0
    cr8 = 0
    efer = 0
    interruptShadow = []
    nmiBlocked = 0
    nmiPending = 0
    interruptPending = 0
    interruptVector = 0
    wantsInterruptWindow = 0
    pendingDebug = 0
    completion = ExitCompletion()
    resetExecution(isBootstrap: isBootstrap)
  }

  /// A SIPI: real mode at the start of page `vector`.
  mutating func startUp(vector: UInt8) {
    withUnsafeMutableBytes(of: &segments) { bytes in
      bytes.bindMemory(to: SegmentState.self)[SegmentRegister.cs.rawValue] = SegmentState(
        base: UInt64(vector) << 12, limit: 0xffff, selector: UInt16(vector) << 8, attributes: Self.codeAttributes)
    }
    rip = 0
    activity = .running
  }

  private static var codeAttributes: UInt16 { SegmentAttributes.code | dataAttributes }
  private static var dataAttributes: UInt16 {
    SegmentAttributes.present | SegmentAttributes.nonSystem | SegmentAttributes.readWrite | SegmentAttributes.accessed
  }

  /// What power-up and INIT have in common.
  private mutating func resetExecution(isBootstrap: Bool) {
    withUnsafeMutableBytes(of: &gpr) { bytes in
      let registers = bytes.bindMemory(to: UInt64.self)
      for index in registers.indices { registers[index] = 0 }
      // RDX: a processor of family 6.
      registers[2] = 0x600
    }
    rip = 0xfff0
    rflags = RFLAGS.fixed
    withUnsafeMutableBytes(of: &segments) { bytes in
      let segments = bytes.bindMemory(to: SegmentState.self)
      for index in segments.indices {
        segments[index] = SegmentState(base: 0, limit: 0xffff, selector: 0, attributes: Self.dataAttributes)
      }
      segments[SegmentRegister.cs.rawValue] = SegmentState(
        base: 0xffff_0000, limit: 0xffff, selector: 0xf000, attributes: Self.codeAttributes)
    }
    // An LDT and a busy 32-bit TSS, both present and at 0.
    ldtr = SegmentState(base: 0, limit: 0xffff, selector: 0, attributes: SegmentAttributes.present | 2)
    tr = SegmentState(base: 0, limit: 0xffff, selector: 0, attributes: SegmentAttributes.present | 11)
    gdtr = DescriptorTableState(base: 0, limit: 0xffff, reserved: 0)
    idtr = DescriptorTableState(base: 0, limit: 0xffff, reserved: 0)
    dr = (0, 0, 0, 0)
    dr6 = 0xffff_0ff0
    dr7 = 0x400
    cpl = 0
    activity = isBootstrap ? .running : .waitForSIPI
  }
}
