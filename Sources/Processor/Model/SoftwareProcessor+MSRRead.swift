import CHost
import X86

/// Reads of model-specific registers. Those of the local APIC, and all that are unknown here, are answered from outside.
extension SoftwareProcessor {
  func readMSR(_ index: UInt32) throws(GuestFault) -> UInt64 {
    typealias MSR = ModelSpecificRegister
    guard model.offersMSR(index) else { throw .generalProtection() }
    switch index {
    case MSR.fsBase: return cpu.pointee.segments.4.base
    case MSR.gsBase: return cpu.pointee.segments.5.base
    case MSR.kernelGSBase: return cpu.pointee.kernelGSBase
    case MSR.efer: return cpu.pointee.efer
    case MSR.star: return cpu.pointee.star
    case MSR.lstar: return cpu.pointee.lstar
    case MSR.cstar: return cpu.pointee.cstar
    case MSR.fmask: return cpu.pointee.fmask
    case MSR.timeStampCounter: return try timeStamp()
    case MSR.timeStampAdjust: return cpu.pointee.tscAdjust
    case MSR.timeStampAuxiliary: return cpu.pointee.tscAux
    case MSR.sysenterCS: return cpu.pointee.sysenterCS
    case MSR.sysenterESP: return cpu.pointee.sysenterESP
    case MSR.sysenterEIP: return cpu.pointee.sysenterEIP
    case MSR.pageAttributeTable: return cpu.pointee.pat
    case MSR.microcodeRevision: return model.microcodeRevision
    case MSR.miscellaneousEnable: return cpu.pointee.miscEnable
    case MSR.debugControl: return cpu.pointee.debugControl
    case MSR.lastBranches, MSR.machineCheckAddress, MSR.machineCheckType: return 0
    case MSR.speculationControl: return cpu.pointee.specControl
    // Can be written only.
    case MSR.predictionCommand: throw .generalProtection()
    case MSR.architecturalCapabilities: return model.architecturalCapabilities
    case MSR.extendedSupervisorState: return cpu.pointee.xss
    case MSR.supervisorProtectionKeys: return cpu.pointee.pkrs
    case MSR.machineCheckCapabilities...MSR.machineCheckControl, MSR.machineCheckBanks:
      return readMachineCheck(index)
    case MSR.mtrrCapabilities, MSR.mtrrDefaultType, MSR.variableMTRRs, MSR.fixedMTRR64K, MSR.fixedMTRRs16K,
      MSR.fixedMTRRs4K:
      return readMTRR(index)
    default: break
    }
    switch model.vendor {
    case .intel: if let value = readIntelMSR(index) { return value }
    case .amd: if let value = readAMDMSR(index) { return value }
    }
    return try answer(to: .msrRead(index: index))
  }

  private func readMachineCheck(_ index: UInt32) -> UInt64 {
    typealias MSR = ModelSpecificRegister
    switch index {
    case MSR.machineCheckCapabilities: return model.machineCheckCapabilities
    case MSR.machineCheckStatus: return cpu.pointee.machineCheckStatus
    case MSR.machineCheckControl: return cpu.pointee.machineCheckControl
    default:
      let (bank, register) = (index - MSR.machineCheckBanks.lowerBound).quotientAndRemainder(dividingBy: 4)
      // The status is zero: nothing was ever reported.
      switch register {
      case 0: return cpu.pointee.machineCheckBanks >> UInt64(bank) & 1 != 0 ? ~0 : 0
      case 1: return 0
      default: return machineCheckRegister(bank: bank, isMiscellaneous: register == 3)
      }
    }
  }

  /// IA32_MCn_ADDR or IA32_MCn_MISC: any value can be written, and read back.
  private func machineCheckRegister(bank: UInt32, isMiscellaneous: Bool) -> UInt64 {
    withUnsafeBytes(of: &cpu.pointee.machineCheckRegisters) { bytes in
      let place = Self.machineCheckPlace(bank, isMiscellaneous)
      return place < bytes.count ? bytes.load(fromByteOffset: place, as: UInt64.self) : 0
    }
  }

  func setMachineCheckRegister(bank: UInt32, isMiscellaneous: Bool, _ value: UInt64) {
    withUnsafeMutableBytes(of: &cpu.pointee.machineCheckRegisters) { bytes in
      let place = Self.machineCheckPlace(bank, isMiscellaneous)
      if place < bytes.count { bytes.storeBytes(of: value, toByteOffset: place, as: UInt64.self) }
    }
  }

  private static func machineCheckPlace(_ bank: UInt32, _ isMiscellaneous: Bool) -> Int {
    (Int(bank) * 2 + (isMiscellaneous ? 1 : 0)) * 8
  }

  private func readMTRR(_ index: UInt32) -> UInt64 {
    switch index {
    case ModelSpecificRegister.mtrrCapabilities: return CPUModel.mtrrCapabilities
    case ModelSpecificRegister.mtrrDefaultType: return cpu.pointee.mtrrDefaultType
    default: return mtrrPointer(index).pointee
    }
  }

  /// Where a fixed or variable MTRR is in CPUState.
  func mtrrPointer(_ index: UInt32) -> UnsafeMutablePointer<UInt64> {
    typealias MSR = ModelSpecificRegister
    if MSR.variableMTRRs.contains(index) {
      let first = UnsafeMutableRawPointer(cpu) + MemoryLayout<CPUState>.offset(of: \.mtrrVariable).unsafelyUnwrapped
      return first.assumingMemoryBound(to: UInt64.self) + Int(index - MSR.variableMTRRs.lowerBound)
    }
    let first = UnsafeMutableRawPointer(cpu) + MemoryLayout<CPUState>.offset(of: \.mtrrFixed).unsafelyUnwrapped
    let number: UInt32
    if MSR.fixedMTRRs16K.contains(index) {
      number = 1 + index - MSR.fixedMTRRs16K.lowerBound
    } else if MSR.fixedMTRRs4K.contains(index) {
      number = 3 + index - MSR.fixedMTRRs4K.lowerBound
    } else {
      number = 0
    }
    return first.assumingMemoryBound(to: UInt64.self) + Int(number)
  }

  private func readIntelMSR(_ index: UInt32) -> UInt64? {
    typealias MSR = ModelSpecificRegister
    switch index {
    case MSR.featureControl: return cpu.pointee.featureControl
    case MSR.platformID, MSR.powerOn, MSR.platformInformation, MSR.featuresEnable: return 0
    default: return nil
    }
  }

  private func readAMDMSR(_ index: UInt32) -> UInt64? {
    typealias MSR = ModelSpecificRegister
    switch index {
    // The TSC counts at the P0 frequency.
    case MSR.amdHardwareConfiguration: return 1 << 24
    // LFENCE is dispatch-serializing.
    case MSR.amdDecodeConfiguration: return 1 << 1
    // SVM is disabled and locked.
    case MSR.amdVirtualMachineControl: return 1 << 4 | 1 << 3
    case MSR.amdTopOfMemory: return min(memory.size, 3 << 30)
    case MSR.amdTopOfMemory2: return memory.size > 3 << 30 ? (4 << 30) + memory.size - (3 << 30) : 0
    // Counters that keep nothing are how a guest sees that nothing is counted.
    case MSR.amdPerformanceCounters, MSR.amdSystemConfiguration, MSR.amdInterruptPending, MSR.amdWorkaroundCount,
      MSR.amdWorkaroundStatus, MSR.amdConfigurations:
      return 0
    default: return nil
    }
  }
}
