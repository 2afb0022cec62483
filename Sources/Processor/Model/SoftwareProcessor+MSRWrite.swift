import CHost
import X86

/// Writes of model-specific registers: #GP(0) for reserved bits and addresses that are not canonical. Those of the local
/// APIC, and all that are unknown here, go out and come back accepted or refused.
extension SoftwareProcessor {
  func writeMSR(_ index: UInt32, _ value: UInt64) throws(GuestFault) {
    typealias MSR = ModelSpecificRegister
    guard model.offersMSR(index) else { throw .generalProtection() }
    switch index {
    case MSR.fsBase:
      cpu.pointee.segments.4.base = try canonical(value)
      modeChanged()
    case MSR.gsBase:
      cpu.pointee.segments.5.base = try canonical(value)
      modeChanged()
    case MSR.kernelGSBase: cpu.pointee.kernelGSBase = try canonical(value)
    case MSR.efer: try setEFER(value)
    case MSR.star: cpu.pointee.star = value
    case MSR.lstar: cpu.pointee.lstar = try canonical(value)
    case MSR.cstar: cpu.pointee.cstar = try canonical(value)
    case MSR.fmask: cpu.pointee.fmask = try checked(value, 0xffff_ffff)
    case MSR.timeStampCounter: try setTimeStamp(value)
    case MSR.timeStampAdjust:
      cpu.pointee.tscOffset &+= value &- cpu.pointee.tscAdjust
      cpu.pointee.tscAdjust = value
      post(.timeStampMoved)
    case MSR.timeStampAuxiliary:
      cpu.pointee.tscAux = try checked(value, 0xffff_ffff)
    case MSR.sysenterCS: cpu.pointee.sysenterCS = value & 0xffff_ffff
    case MSR.sysenterESP: cpu.pointee.sysenterESP = try canonical(value)
    case MSR.sysenterEIP: cpu.pointee.sysenterEIP = try canonical(value)
    case MSR.pageAttributeTable:
      guard Self.areMemoryTypes(value, allowsUncached: true) else { throw .generalProtection() }
      cpu.pointee.pat = value
    // Written with zero before CPUID loads the revision again; updates themselves are accepted and change nothing.
    case MSR.microcodeRevision, MSR.microcodeUpdate: return
    case MSR.miscellaneousEnable: cpu.pointee.miscEnable = value | CPUModel.miscellaneousEnableFixed
    case MSR.debugControl:
      cpu.pointee.debugControl = try checked(value, DebugMSR.lastBranchRecord | DebugMSR.branchTrapFlag)
    case MSR.machineCheckAddress, MSR.machineCheckType: _ = try checked(value, 0)
    case MSR.speculationControl:
      cpu.pointee.specControl = try checked(value, 1)
    // There is no predictor to bar.
    case MSR.predictionCommand: _ = try checked(value, 1)
    case MSR.extendedSupervisorState: cpu.pointee.xss = try checked(value, 0)
    case MSR.supervisorProtectionKeys:
      cpu.pointee.pkrs = try checked(value, 0xffff_ffff)
      if cpu.pointee.cr4 & CR4.pks != 0 { translations.flushAll() }
    // The bit that turns the x2APIC on.
    case MSR.apicBase where value & 1 << 10 != 0 && !model.features.contains(.x2apic): throw .generalProtection()
    case MSR.machineCheckCapabilities...MSR.machineCheckControl, MSR.machineCheckBanks:
      try writeMachineCheck(index, value)
    case MSR.mtrrDefaultType, MSR.variableMTRRs, MSR.fixedMTRR64K, MSR.fixedMTRRs16K, MSR.fixedMTRRs4K:
      try writeMTRR(index, value)
    case MSR.mtrrCapabilities, MSR.architecturalCapabilities: throw .generalProtection()
    default:
      let isKnown = model.vendor == .intel ? try writeIntelMSR(index, value) : writeAMDMSR(index)
      if isKnown { return }
      _ = try answer(to: .msrWrite(index: index, value: value))
      if index == MSR.apicBase { cpu.pointee.apicBase = value }
    }
  }

  @inline(__always)
  private func canonical(_ value: UInt64) throws(GuestFault) -> UInt64 {
    guard isCanonicalForModel(value) else { throw .generalProtection() }
    return value
  }

  private func checked(_ value: UInt64, _ allowed: UInt64) throws(GuestFault) -> UInt64 {
    guard value & ~allowed == 0 else { throw .generalProtection() }
    return value
  }

  /// A write of the counter moves IA32_TSC_ADJUST by as much (SDM vol. 3B, 17.17.3).
  private func setTimeStamp(_ value: UInt64) throws(GuestFault) {
    let difference = value &- (try timeStamp())
    cpu.pointee.tscOffset &+= difference
    cpu.pointee.tscAdjust &+= difference
    post(.timeStampMoved)
  }

  private func writeMachineCheck(_ index: UInt32, _ value: UInt64) throws(GuestFault) {
    typealias MSR = ModelSpecificRegister
    switch index {
    case MSR.machineCheckCapabilities: throw .generalProtection()
    case MSR.machineCheckStatus: cpu.pointee.machineCheckStatus = try checked(value, 0)
    case MSR.machineCheckControl:
      guard value == 0 || value == ~0 else { throw .generalProtection() }
      cpu.pointee.machineCheckControl = value
    default:
      let (bank, register) = (index - MSR.machineCheckBanks.lowerBound).quotientAndRemainder(dividingBy: 4)
      guard bank < UInt32(ModelSpecificRegister.machineCheckBankCount) else { throw .generalProtection() }
      switch register {
      case 0: guard value == 0 || value == ~0 else { throw .generalProtection() }
      case 1:
        _ = try checked(value, 0)
        return
      default:
        setMachineCheckRegister(bank: bank, isMiscellaneous: register == 3, value)
        return
      }
      let bit = (1 as UInt64) << UInt64(bank)
      if value == 0 {
        cpu.pointee.machineCheckBanks &= ~bit
      } else {
        cpu.pointee.machineCheckBanks |= bit
      }
    }
  }

  // MARK: Memory types

  /// Whether all eight bytes are memory types; UC- is one in the PAT only.
  private static func areMemoryTypes(_ value: UInt64, allowsUncached: Bool) -> Bool {
    for index in 0..<8 where !isMemoryType(value >> UInt64(8 * index) & 0xff, allowsUncached: allowsUncached) {
      return false
    }
    return true
  }

  private static func isMemoryType(_ type: UInt64, allowsUncached: Bool) -> Bool {
    switch type {
    case 0, 1, 4, 5, 6: true
    case 7: allowsUncached
    default: false
    }
  }

  private func writeMTRR(_ index: UInt32, _ value: UInt64) throws(GuestFault) {
    typealias MSR = ModelSpecificRegister
    let isValid: Bool
    switch index {
    case MSR.mtrrDefaultType:
      guard value & ~0xcff == 0, Self.isMemoryType(value & 0xff, allowsUncached: false) else {
        throw .generalProtection()
      }
      cpu.pointee.mtrrDefaultType = value
      return
    case MSR.variableMTRRs:
      let reserved = ~model.physicalAddressMask
      isValid =
        index & 1 == 0
        ? value & (reserved | 0xf00) == 0 && Self.isMemoryType(value & 0xff, allowsUncached: false)
        : value & (reserved | 0x7ff) == 0
    default: isValid = Self.areMemoryTypes(value, allowsUncached: false)
    }
    guard isValid else { throw .generalProtection() }
    mtrrPointer(index).pointee = value
  }

  // MARK: Vendors

  /// False: not a register of this vendor's.
  private func writeIntelMSR(_ index: UInt32, _ value: UInt64) throws(GuestFault) -> Bool {
    typealias MSR = ModelSpecificRegister
    switch index {
    case MSR.featureControl:
      guard cpu.pointee.featureControl & 1 == 0 else { throw .generalProtection() }
      cpu.pointee.featureControl = try checked(value, 1)
    case MSR.featuresEnable: _ = try checked(value, 0)
    case MSR.platformID, MSR.platformInformation: throw .generalProtection()
    case MSR.powerOn: break
    default: return false
    }
    return true
  }

  /// Configuration bits have no effect, and counters do not count.
  private func writeAMDMSR(_ index: UInt32) -> Bool {
    typealias MSR = ModelSpecificRegister
    switch index {
    case MSR.amdPerformanceCounters, MSR.amdSystemConfiguration, MSR.amdHardwareConfiguration, MSR.amdTopOfMemory,
      MSR.amdTopOfMemory2,
      MSR.amdPatchLoader, MSR.amdInterruptPending, MSR.amdVirtualMachineControl, MSR.amdWorkaroundCount,
      MSR.amdWorkaroundStatus, MSR.amdConfigurations:
      return true
    default: return false
    }
  }
}
