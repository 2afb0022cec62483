import CHost
import X86

/// How a processor is reset.
public enum CPUReset: Sendable {
  /// Power-on or RESET#.
  case powerOn
  /// INIT: caches, x87 and vector state, time-stamp counter and most model-specific registers are kept.
  case initialize
}

/// The processor's state after reset (SDM vol. 3A, table 10-1).
extension CPUModel {
  /// Resets `state`; its engine's part is left alone. The bootstrap processor starts at FFFFFFF0H; others wait for SIPI
  /// after INIT and after power-on.
  ///
  /// `hostStart` is the host's time stamp at which the guest's counter is zero: give all processors the same, so that
  /// their counters agree. INIT does not use it.
  public func reset(
    _ state: UnsafeMutablePointer<CPUState>, _ kind: CPUReset, isBootstrap: Bool, poweredOnAt hostStart: UInt64
  ) {
    let old = state.pointee
    state.pointee = CPUState()
    state.pointee.engine = old.engine
    state.pointee.intercepts = old.intercepts
    setCommonState(state, isBootstrap: isBootstrap)
    switch kind {
    case .powerOn:
      state.pointee.cr0 = 0x6000_0010
      state.pointee.xcr0 = 1
      state.pointee.tscOffset = 0 &- hostStart
      state.pointee.apicBase = 0xfee0_0800 | (isBootstrap ? 0x100 : 0)
      state.pointee.pat = 0x0007_0406_0007_0406
      state.pointee.miscEnable = Self.miscellaneousEnableFixed | 1
      // Locked, with VMX off, as firmware leaves it.
      state.pointee.featureControl = 1
      state.pointee.microcodeRevision = vendor == .intel ? 1 << 32 : 1
      state.pointee.machineCheckControl = ~0
      state.pointee.machineCheckBanks = ~0
      setVectorState(state)
    case .initialize:
      keepState(state, old)
    }
  }

  private func setCommonState(_ state: UnsafeMutablePointer<CPUState>, isBootstrap: Bool) {
    let data = SegmentState(base: 0, limit: 0xffff, selector: 0, attributes: 0x93)
    // Readable code, so that fetches are in order after PE is set.
    let code = SegmentState(base: 0xffff_0000, limit: 0xffff, selector: 0xf000, attributes: 0x9b)
    state.pointee.segments = (data, code, data, data, data, data)
    state.pointee.ldtr = SegmentState(base: 0, limit: 0xffff, selector: 0, attributes: 0x82)
    state.pointee.tr = SegmentState(base: 0, limit: 0xffff, selector: 0, attributes: 0x8b)
    state.pointee.gdtr = DescriptorTableState(base: 0, limit: 0xffff, reserved: 0)
    state.pointee.idtr = DescriptorTableState(base: 0, limit: 0xffff, reserved: 0)
    state.pointee.rip = 0xfff0
    state.pointee.rflags = RFLAGS.fixed
    state.pointee.gpr.2 = UInt64(signature)
    state.pointee.dr6 = DebugStatus.fixed
    state.pointee.dr7 = DebugControl.fixed
    state.pointee.activity = isBootstrap ? .running : .waitForSIPI
  }

  /// x87 as after reset, which is not as after FNINIT: control word 0040H, all registers zero and valid.
  private func setVectorState(_ state: UnsafeMutablePointer<CPUState>) {
    withUnsafeMutableBytes(of: &state.pointee.xsave) { area in
      area.storeBytes(of: 0x0040, toByteOffset: 0, as: UInt16.self)
      area.storeBytes(of: 0xff, toByteOffset: 4, as: UInt8.self)
      area.storeBytes(of: 0x1f80, toByteOffset: 24, as: UInt32.self)
      area.storeBytes(of: 0xffff, toByteOffset: 28, as: UInt32.self)
      area.storeBytes(of: 3, toByteOffset: 512, as: UInt64.self)
    }
  }

  /// What INIT does not touch.
  private func keepState(_ state: UnsafeMutablePointer<CPUState>, _ old: CPUState) {
    state.pointee.cr0 = 0x10 | old.cr0 & (CR0.cd | CR0.nw)
    state.pointee.xcr0 = old.xcr0
    state.pointee.pkru = old.pkru
    state.pointee.xss = old.xss
    state.pointee.star = old.star
    state.pointee.lstar = old.lstar
    state.pointee.cstar = old.cstar
    state.pointee.fmask = old.fmask
    state.pointee.kernelGSBase = old.kernelGSBase
    state.pointee.sysenterCS = old.sysenterCS
    state.pointee.sysenterESP = old.sysenterESP
    state.pointee.sysenterEIP = old.sysenterEIP
    state.pointee.tscAux = old.tscAux
    state.pointee.tscAdjust = old.tscAdjust
    state.pointee.tscOffset = old.tscOffset
    state.pointee.apicBase = old.apicBase
    state.pointee.pat = old.pat
    state.pointee.miscEnable = old.miscEnable
    state.pointee.featureControl = old.featureControl
    state.pointee.microcodeRevision = old.microcodeRevision
    state.pointee.specControl = old.specControl
    state.pointee.mtrrDefaultType = old.mtrrDefaultType
    state.pointee.mtrrFixed = old.mtrrFixed
    state.pointee.mtrrVariable = old.mtrrVariable
    state.pointee.machineCheckControl = old.machineCheckControl
    state.pointee.machineCheckStatus = old.machineCheckStatus
    state.pointee.machineCheckBanks = old.machineCheckBanks
    state.pointee.fpuInstructionPointer = old.fpuInstructionPointer
    state.pointee.fpuDataPointer = old.fpuDataPointer
    state.pointee.fpuOpcode = old.fpuOpcode
    state.pointee.fpuCodeSegment = old.fpuCodeSegment
    state.pointee.fpuDataSegment = old.fpuDataSegment
    state.pointee.xsave = old.xsave
    state.pointee.instructionCount = old.instructionCount
  }

  /// What a start-up IPI does to a processor that waits for one: real mode at `vector` times 4 KiB. Others ignore it.
  public func startUp(_ state: UnsafeMutablePointer<CPUState>, vector: UInt8) {
    guard state.pointee.activity == .waitForSIPI else { return }
    state.pointee.segments.1.selector = UInt16(vector) << 8
    state.pointee.segments.1.base = UInt64(vector) << 12
    state.pointee.rip = 0
    state.pointee.activity = .running
  }
}
