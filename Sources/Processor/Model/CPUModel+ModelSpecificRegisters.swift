/// Which model-specific registers exist: those of features that CPUID denies do not.
extension CPUModel {
  /// False: RDMSR and WRMSR give #GP(0). True for registers that the model knows nothing of.
  func offersMSR(_ index: UInt32) -> Bool {
    typealias MSR = ModelSpecificRegister
    switch index {
    case MSR.machineCheckAddress, MSR.machineCheckType: return features.contains(.mce)
    case MSR.timeStampCounter: return features.contains(.tsc)
    case MSR.apicBase: return features.contains(.apic)
    case MSR.x2APIC: return features.contains(.x2apic)
    case MSR.timeStampDeadline: return features.contains(.timeStampDeadline)
    case MSR.timeStampAdjust: return features.contains(.timeStampAdjust)
    case MSR.timeStampAuxiliary: return features.contains(.rdtscp) || features.contains(.rdpid)
    case MSR.sysenterCS...MSR.sysenterEIP: return features.contains(.sep)
    case MSR.pageAttributeTable: return features.contains(.pat)
    case MSR.mtrrCapabilities, MSR.mtrrDefaultType, MSR.variableMTRRs, MSR.fixedMTRR64K, MSR.fixedMTRRs16K,
      MSR.fixedMTRRs4K:
      return features.contains(.mtrr)
    case MSR.machineCheckCapabilities...MSR.machineCheckControl, MSR.machineCheckBanks: return features.contains(.mca)
    case MSR.speculationControl, MSR.predictionCommand: return features.contains(.speculationControl)
    case MSR.architecturalCapabilities: return features.contains(.architecturalCapabilities)
    case MSR.extendedSupervisorState: return features.contains(.xsaves)
    case MSR.supervisorProtectionKeys: return features.contains(.pks)
    case MSR.kvmClock, MSR.oldKVMClock: return features.contains(.kvmClock)
    case MSR.efer: return extendedFeatureMask != 0
    case MSR.star: return features.contains(.syscall)
    case MSR.lstar, MSR.cstar, MSR.fmask, MSR.fsBase, MSR.gsBase, MSR.kernelGSBase: return features.contains(.longMode)
    case MSR.microcodeUpdate, MSR.microcodeRevision, MSR.miscellaneousEnable, MSR.debugControl, MSR.lastBranches,
      MSR.platformID, MSR.powerOn, MSR.featureControl, MSR.platformInformation, MSR.featuresEnable:
      return identity.family >= 6
    default: return true
    }
  }
}
