/// Indices of model-specific registers (SDM vol. 4; from 0xc001_0000 APM vol. 2, appendix A).
enum ModelSpecificRegister {
  static let machineCheckAddress: UInt32 = 0x0
  static let machineCheckType: UInt32 = 0x1
  static let timeStampCounter: UInt32 = 0x10
  static let platformID: UInt32 = 0x17
  static let apicBase: UInt32 = 0x1b
  static let powerOn: UInt32 = 0x2a
  static let featureControl: UInt32 = 0x3a
  static let timeStampAdjust: UInt32 = 0x3b
  static let speculationControl: UInt32 = 0x48
  static let predictionCommand: UInt32 = 0x49
  static let microcodeUpdate: UInt32 = 0x79
  static let microcodeRevision: UInt32 = 0x8b
  static let platformInformation: UInt32 = 0xce
  static let mtrrCapabilities: UInt32 = 0xfe
  static let architecturalCapabilities: UInt32 = 0x10a
  static let featuresEnable: UInt32 = 0x140
  static let sysenterCS: UInt32 = 0x174
  static let sysenterESP: UInt32 = 0x175
  static let sysenterEIP: UInt32 = 0x176
  static let machineCheckCapabilities: UInt32 = 0x179
  static let machineCheckStatus: UInt32 = 0x17a
  static let machineCheckControl: UInt32 = 0x17b
  static let miscellaneousEnable: UInt32 = 0x1a0
  static let debugControl: UInt32 = 0x1d9
  /// Last branch from and to, last interrupt from and to.
  static let lastBranches: ClosedRange<UInt32> = 0x1db...0x1de
  /// Bases and masks in turn.
  static let variableMTRRs: ClosedRange<UInt32> = 0x200...0x20f
  static let fixedMTRR64K: UInt32 = 0x250
  static let fixedMTRRs16K: ClosedRange<UInt32> = 0x258...0x259
  static let fixedMTRRs4K: ClosedRange<UInt32> = 0x268...0x26f
  static let pageAttributeTable: UInt32 = 0x277
  static let mtrrDefaultType: UInt32 = 0x2ff
  /// Control, status, address and miscellaneous of each bank.
  static let machineCheckBanks: ClosedRange<UInt32> = 0x400...(0x400 + 4 * machineCheckBankCount - 1)
  static let machineCheckBankCount: UInt32 = 10
  static let timeStampDeadline: UInt32 = 0x6e0
  static let supervisorProtectionKeys: UInt32 = 0x6e1
  static let x2APIC: ClosedRange<UInt32> = 0x800...0x8ff
  static let extendedSupervisorState: UInt32 = 0xda0

  /// KVM's: wall clock and system time, by their old numbers and by those out of the way of all processors.
  static let oldKVMClock: ClosedRange<UInt32> = 0x11...0x12
  static let kvmClock: ClosedRange<UInt32> = 0x4b56_4d00...0x4b56_4d01

  static let efer: UInt32 = 0xc000_0080
  static let star: UInt32 = 0xc000_0081
  static let lstar: UInt32 = 0xc000_0082
  static let cstar: UInt32 = 0xc000_0083
  static let fmask: UInt32 = 0xc000_0084
  static let fsBase: UInt32 = 0xc000_0100
  static let gsBase: UInt32 = 0xc000_0101
  static let kernelGSBase: UInt32 = 0xc000_0102
  static let timeStampAuxiliary: UInt32 = 0xc000_0103

  /// Event selectors and counters, four each.
  static let amdPerformanceCounters: ClosedRange<UInt32> = 0xc001_0000...0xc001_0007
  static let amdSystemConfiguration: UInt32 = 0xc001_0010
  static let amdHardwareConfiguration: UInt32 = 0xc001_0015
  static let amdTopOfMemory: UInt32 = 0xc001_001a
  static let amdTopOfMemory2: UInt32 = 0xc001_001d
  static let amdPatchLoader: UInt32 = 0xc001_0020
  static let amdInterruptPending: UInt32 = 0xc001_0055
  static let amdVirtualMachineControl: UInt32 = 0xc001_0114
  static let amdWorkaroundCount: UInt32 = 0xc001_0140
  static let amdWorkaroundStatus: UInt32 = 0xc001_0141
  /// LS, IC, DC and BU configuration, FP configuration, DE configuration, BU configuration 2.
  static let amdConfigurations: ClosedRange<UInt32> = 0xc001_1020...0xc001_102a
  static let amdDecodeConfiguration: UInt32 = 0xc001_1029
}

/// Bits of IA32_DEBUGCTL.
enum DebugMSR {
  static let lastBranchRecord: UInt64 = 1
  static let branchTrapFlag: UInt64 = 2
}
