/// The local APIC's model-specific registers: IA32_APIC_BASE, IA32_TSC_DEADLINE and x2APIC mode (SDM vol. 3A, 11.12).
extension LocalAPIC {
  /// Nil: refused with #GP, or not one of these registers.
  func readMSR(_ index: UInt32) -> UInt64? {
    switch index {
    case APICModelSpecificRegister.base: registers.base
    case APICModelSpecificRegister.timeStampDeadline: timer.deadline
    case APICModelSpecificRegister.x2APIC where mode == .x2APIC: readExtended(Int(index & 0xff))
    default: nil
    }
  }

  /// False: refused with #GP, or not one of these registers.
  func writeMSR(_ index: UInt32, _ value: UInt64) -> Bool {
    switch index {
    case APICModelSpecificRegister.base: return writeBase(value)
    case APICModelSpecificRegister.timeStampDeadline:
      timer.deadline = value
      return true
    case APICModelSpecificRegister.x2APIC where mode == .x2APIC: return writeExtended(Int(index & 0xff), value)
    default: return false
    }
  }

  private func readExtended(_ register: Int) -> UInt64? {
    switch register {
    case APICRegister.commandLow: registers.command
    case APICRegister.commandHigh, APICRegister.endOfInterrupt, APICRegister.arbitrationPriority,
      APICRegister.remoteRead, APICRegister.destinationFormat:
      nil
    default: read(register: register).map(UInt64.init)
    }
  }

  private func writeExtended(_ register: Int, _ value: UInt64) -> Bool {
    if register == APICRegister.commandLow { return writeCommand(value) }
    let value32 = UInt32(truncatingIfNeeded: value)
    guard value >> 32 == 0, value32 & ~writableBits(extended: register) == 0 else { return false }
    switch register {
    case APICRegister.taskPriority, APICRegister.endOfInterrupt, APICRegister.spuriousVector,
      APICRegister.errorStatus, APICRegister.localVectors, APICRegister.initialCount,
      APICRegister.divideConfiguration:
      return write(register: register, value: value32)
    case APICRegister.selfIPI:
      fabric.sendSelf(from: self, vector: UInt8(truncatingIfNeeded: value32))
      return true
    default: return false
    }
  }

  /// Bits that may be set in a write in x2APIC mode (SDM vol. 3A, 11.12.1.3: the others are reserved and refused).
  private func writableBits(extended register: Int) -> UInt32 {
    switch register {
    case APICRegister.taskPriority, APICRegister.selfIPI: 0xff
    case APICRegister.spuriousVector: 0x13ff
    case APICRegister.localVectors:
      LocalInterrupt(rawValue: register - APICRegister.localVectors.lowerBound)?.definedBits ?? 0
    case APICRegister.initialCount: 0xffff_ffff
    case APICRegister.divideConfiguration: 0b1011
    default: 0
    }
  }

  /// ICR as one 64-bit register (SDM vol. 3A, 11.12.9). Bit 12, the delivery status of xAPIC mode, is ignored.
  private func writeCommand(_ value: UInt64) -> Bool {
    guard value & 0xfff3_2000 == 0 else { return false }
    registers.command = value & ~UInt64(LocalVector.deliveryStatus)
    fabric.send(from: self, destination: UInt32(truncatingIfNeeded: value >> 32), isWide: true)
    return true
  }

  /// IA32_APIC_BASE: mode transitions of SDM vol. 3A, 11.12.5, figure 11-27.
  private func writeBase(_ value: UInt64) -> Bool {
    let address: UInt64 = (1 << UInt64(fabric.physicalAddressBits)) - 0x1000
    let extended = fabric.supportsX2APIC ? Self.baseExtended : 0
    guard value & ~(address | Self.baseEnable | extended | Self.baseBootstrap) == 0 else { return false }
    let isEnabled = value & Self.baseEnable != 0
    let isExtended = value & Self.baseExtended != 0
    switch (mode, isEnabled, isExtended) {
    case (_, false, true), (.disabled, true, true), (.x2APIC, true, false):
      return false
    case (.disabled, true, false):
      initialize()
      registers.identifier = UInt8(truncatingIfNeeded: cpu)
    case (.xAPIC, false, _), (.x2APIC, false, _):
      // CR8 stays usable without an APIC.
      let taskPriority = registers.taskPriority
      initialize()
      registers.taskPriority = taskPriority
    case (.xAPIC, true, true):
      // The 8-bit destination has no meaning as a 32-bit one.
      registers.command &= 0xffff_ffff
    default: break
    }
    registers.base = value
    return true
  }
}
