/// The register file that both faces of the local APIC share (SDM vol. 3A, table 11-1). Numbers are those of
/// `APICRegister`; what a mode forbids is its face's business.
extension LocalAPIC {
  /// Nil where there is no such register.
  func read(register: Int) -> UInt32? {
    switch register {
    case APICRegister.id: mode == .x2APIC ? UInt32(truncatingIfNeeded: cpu) : UInt32(registers.identifier) << 24
    case APICRegister.version: Self.version
    case APICRegister.taskPriority: UInt32(registers.taskPriority)
    case APICRegister.arbitrationPriority: UInt32(arbitrationPriority)
    case APICRegister.processorPriority: UInt32(processorPriority)
    case APICRegister.endOfInterrupt, APICRegister.remoteRead: 0
    case APICRegister.logicalDestination:
      mode == .x2APIC ? extendedLogicalDestination : UInt32(registers.logicalDestination) << 24
    case APICRegister.destinationFormat: registers.destinationFormat
    case APICRegister.spuriousVector: registers.spuriousVector
    case APICRegister.inService: registers.inService.register(register - APICRegister.inService.lowerBound)
    case APICRegister.triggerMode: registers.triggerMode.register(register - APICRegister.triggerMode.lowerBound)
    case APICRegister.requested: registers.requested.register(register - APICRegister.requested.lowerBound)
    case APICRegister.errorStatus: UInt32(registers.errorStatus)
    case APICRegister.commandLow: UInt32(truncatingIfNeeded: registers.command)
    case APICRegister.commandHigh: UInt32(truncatingIfNeeded: registers.command >> 32)
    case APICRegister.localVectors: registers.localVectors[register - APICRegister.localVectors.lowerBound]
    case APICRegister.initialCount: timer.state.initialCount
    case APICRegister.currentCount: timer.currentCount
    case APICRegister.divideConfiguration: timer.state.divideConfiguration
    default: nil
    }
  }

  /// False where there is no such register. Writes to read-only registers are ignored.
  func write(register: Int, value: UInt32) -> Bool {
    switch register {
    case APICRegister.id: registers.identifier = UInt8(truncatingIfNeeded: value >> 24)
    case APICRegister.taskPriority: setTaskPriority(UInt8(truncatingIfNeeded: value))
    case APICRegister.endOfInterrupt: endOfInterrupt()
    case APICRegister.logicalDestination: registers.logicalDestination = UInt8(truncatingIfNeeded: value >> 24)
    case APICRegister.destinationFormat: registers.destinationFormat = value | 0x0fff_ffff
    case APICRegister.spuriousVector: writeSpuriousVector(value)
    case APICRegister.errorStatus: latchErrors()
    case APICRegister.commandLow:
      registers.command = registers.command & ~0xffff_ffff | UInt64(value & ~LocalVector.deliveryStatus)
      fabric.send(from: self, destination: UInt32(truncatingIfNeeded: registers.command >> 56), isWide: false)
    case APICRegister.commandHigh:
      registers.command = registers.command & 0xffff_ffff | UInt64(value & 0xff00_0000) << 32
    case APICRegister.localVectors:
      writeLocalVector(register - APICRegister.localVectors.lowerBound, value)
    case APICRegister.initialCount: timer.start(count: value)
    case APICRegister.divideConfiguration: timer.setDivideConfiguration(value)
    case APICRegister.version, APICRegister.arbitrationPriority, APICRegister.processorPriority,
      APICRegister.remoteRead, APICRegister.inService, APICRegister.triggerMode, APICRegister.requested,
      APICRegister.currentCount:
      break
    default: return false
    }
    return true
  }

  /// The logical ID that x2APIC mode derives from the ID: 16 processors a cluster (SDM vol. 3A, 11.12.10.2).
  var extendedLogicalDestination: UInt32 {
    let number = UInt32(truncatingIfNeeded: cpu)
    return (number >> 4) << 16 | 1 << (number & 15)
  }

  /// Writes the task-priority register; what it no longer holds back is announced.
  func setTaskPriority(_ value: UInt8) {
    guard value != registers.taskPriority else { return }
    registers.taskPriority = value
    notifyIfDeliverable()
  }

  /// Software disable masks all local vectors and keeps them masked (SDM vol. 3A, 11.4.7.2).
  private func writeSpuriousVector(_ value: UInt32) {
    registers.spuriousVector = value & 0x13ff
    guard value & Self.softwareEnable == 0 else { return }
    registers.localVectors |= SIMD8(repeating: LocalVector.masked)
    configureTimer()
  }

  private func writeLocalVector(_ index: Int, _ value: UInt32) {
    guard let source = LocalInterrupt(rawValue: index) else { return }
    let kept = registers.localVectors[index] & LocalVector.remoteIRR
    var entry = value & source.writableBits
    if !isSoftwareEnabled { entry |= LocalVector.masked }
    switch source {
    case .timer:
      registers.localVectors[index] = entry
      configureTimer()
    case .line0:
      // An entry that is no longer fixed and level-triggered has nothing outstanding.
      let isLevel = entry & (LocalVector.levelTriggered | 0x700) == LocalVector.levelTriggered
      registers.localVectors[index] = isLevel ? entry | kept : entry
      evaluateLine0(level: fabric.line0Level)
    default:
      registers.localVectors[index] = entry
    }
  }

  private func configureTimer() {
    let entry = registers.localVectors[LocalInterrupt.timer.rawValue]
    let mode = APICTimer.Mode(rawValue: UInt8(truncatingIfNeeded: entry >> 17) & 3) ?? .reserved
    timer.configure(mode: mode, isMasked: entry & LocalVector.masked != 0)
  }

  /// A write to the error status register makes the errors since the last one readable.
  private func latchErrors() {
    registers.errorStatus = registers.pendingErrors
    registers.pendingErrors = 0
    registers.errorInterruptArmed = true
  }
}

/// The xAPIC page: registers are 32 bits wide at multiples of 16 (SDM vol. 3A, 11.4.1).
extension LocalAPIC {
  /// All ones unless the page answers, that is, in xAPIC mode.
  func readPage(offset: Int, size: Int) -> UInt64 {
    guard mode == .xAPIC else { return .max }
    guard offset & 0xc == 0 else { return 0 }
    guard let value = read(register: offset >> 4) else {
      note(APICError.illegalRegister)
      return 0
    }
    return UInt64(value) >> UInt64((offset & 3) * 8)
  }

  /// Only whole registers can be written.
  func writePage(offset: Int, size: Int, value: UInt64) {
    guard mode == .xAPIC, size == 4, offset & 0xf == 0 else { return }
    if !write(register: offset >> 4, value: UInt32(truncatingIfNeeded: value)) { note(APICError.illegalRegister) }
  }
}
