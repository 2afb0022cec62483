import Machine

/// A hard disk that speaks ATA (ATA8-ACS, T13/1699-D revision 6a; geometry and old commands: ATA-5, T13/1321-D).
///
/// What it offers: 28-bit and 48-bit addresses, cylinders and heads too; PIO, multiple-sector and DMA transfers, native
/// command queuing on a serial cable; a write cache that can be switched off; TRIM; SMART without surprises; power modes.
/// What it does not: security, host-protected areas, streaming, device configuration. Their commands are aborted, as its
/// IDENTIFY data say.
final class ATADisk: ATADevice {
  struct State: Codable, Equatable {
    /// Geometry as the host has set it.
    var heads: UInt16
    var sectorsPerTrack: UInt16
    /// Sectors of a block of READ and WRITE MULTIPLE; zero: they are off.
    var multipleCount = ATADisk.maximumMultiple
    var writesThrough = false
    var looksAhead = true
    var hasSMART = true
    var savesSMARTAttributes = true
    var transferMode = ATATransferMode()
    var isInStandby = false
    /// What WRITE BUFFER left.
    var sectorBuffer = [UInt8](repeating: 0, count: 512)
    /// Log 0x10: what failed last in the queue.
    var queueErrorLog: [UInt8] = []
  }

  static let sectorSize: UInt64 = 512
  static let maximumMultiple: UInt16 = 16
  /// Blocks of TRIM ranges in one command.
  static let maximumTrimBlocks: UInt64 = 8
  static let queueDepth: UInt16 = 32

  let backend: any BlockBackend
  let serial: String
  let cable: ATADrive.Cable
  let sectorCount: UInt64
  let geometry: ATAGeometry
  var state: State

  init(_ backend: any BlockBackend, serial: String, cable: ATADrive.Cable) {
    self.backend = backend
    self.serial = serial
    self.cable = cable
    sectorCount = min(backend.size / Self.sectorSize, 1 << 48)
    geometry = ATAGeometry(sectorCount: sectorCount)
    state = Self.powerOn(geometry)
  }

  private static func powerOn(_ geometry: ATAGeometry) -> State {
    State(heads: geometry.heads, sectorsPerTrack: geometry.sectorsPerTrack)
  }

  var isPacketDevice: Bool { false }

  var signature: ATAOutcome {
    var registers = ATARegisters()
    registers.count = 1
    registers.low = 1
    return ATAOutcome(error: .diagnosticsPassed, registers: registers)
  }

  func reset(isHard: Bool) {
    guard isHard else {
      state.isInStandby = false
      state.queueErrorLog = []
      return
    }
    state = Self.powerOn(geometry)
  }

  func save() -> ATADrive.State { .disk(state) }

  func restore(_ state: ATADrive.State) {
    guard case .disk(var saved) = state else { return reset(isHard: true) }
    saved.sectorBuffer = saved.sectorBuffer.resized(to: 512, with: 0)
    saved.heads = min(max(saved.heads, 1), 16)
    saved.sectorsPerTrack = min(max(saved.sectorsPerTrack, 1), 255)
    if !Self.isPossibleMultiple(saved.multipleCount) { saved.multipleCount = 0 }
    self.state = saved
  }

  func noteQueuedFailure(tag: Int, _ outcome: ATAOutcome) { state.queueErrorLog = queueErrorLog(tag: tag, outcome) }

  // MARK: Commands

  func begin(_ command: UInt8, _ registers: ATARegisters) -> ATAStep {
    switch command {
    case ATACommand.readSectors, ATACommand.readSectorsNoRetry, ATACommand.readSectorsExtended, ATACommand.readMultiple,
      ATACommand.readMultipleExtended, ATACommand.readDMA, ATACommand.readDMANoRetry, ATACommand.readDMAExtended,
      ATACommand.readQueued, ATACommand.writeSectors, ATACommand.writeSectorsNoRetry, ATACommand.writeSectorsExtended,
      ATACommand.writeMultiple, ATACommand.writeMultipleExtended, ATACommand.writeMultipleForcedExtended,
      ATACommand.writeVerify, ATACommand.writeDMA, ATACommand.writeDMANoRetry, ATACommand.writeDMAExtended,
      ATACommand.writeDMAForcedExtended, ATACommand.writeQueued:
      return beginAccess(command, registers)
    case ATACommand.readVerify, ATACommand.readVerifyNoRetry, ATACommand.readVerifyExtended:
      return verify(command, registers)
    case ATACommand.dataSetManagement: return beginTrim(registers)
    case ATACommand.flushCache, ATACommand.flushCacheExtended:
      return .work(ATAWork(kind: .flush, registers: registers))
    case ATACommand.identifyDevice: return give(identification(), command, registers)
    case ATACommand.setFeatures: return setFeatures(registers)
    case ATACommand.setMultiple: return setMultiple(registers)
    case ATACommand.initializeParameters: return setGeometry(registers)
    case ATACommand.recalibrate, ATACommand.seek: return .done(.success(registers))
    case ATACommand.executeDiagnostic: return .done(signature)
    case ATACommand.readNativeMaximum, ATACommand.readNativeMaximumExtended:
      return readNativeMaximum(command, registers)
    case ATACommand.readBuffer: return give(state.sectorBuffer, command, registers)
    case ATACommand.writeBuffer: return .transfer(parameters(command, registers, count: 512, method: .pio))
    case ATACommand.readLogExtended: return readLog(registers)
    case ATACommand.smart: return smart(registers)
    case ATACommand.oldPowerCommands, ATACommand.standbyImmediate...ATACommand.idle, ATACommand.checkPowerMode,
      ATACommand.sleep:
      return setPowerMode(ATACommand.modernPowerCommand(command), registers)
    default: return abort(registers)
    }
  }

  func accept(_ bytes: [UInt8], for transfer: ATATransfer) -> ATAStep {
    switch transfer.command {
    case ATACommand.dataSetManagement: return trim(bytes, transfer.registers)
    case ATACommand.writeBuffer:
      state.sectorBuffer = bytes.resized(to: 512, with: 0)
      return .done(.success(transfer.registers))
    case ATACommand.smart: return .done(.success(transfer.registers))
    default: return abort(transfer.registers)
    }
  }

  func finish(_ transfer: ATATransfer) -> ATAStep {
    if transfer.isForced { return .work(ATAWork(kind: .flush, registers: transfer.registers)) }
    return .done(.success(transfer.registers))
  }

  func abort(_ registers: ATARegisters) -> ATAStep { .done(.failure(.aborted, registers)) }

  /// Sends the host whole sectors that the drive has made.
  func give(_ bytes: [UInt8], _ command: UInt8, _ registers: ATARegisters) -> ATAStep {
    .transfer(
      ATATransfer(
        direction: .toHost, method: .pio, content: .bytes(bytes), count: UInt64(bytes.count), command: command,
        registers: registers))
  }

  func parameters(
    _ command: UInt8, _ registers: ATARegisters, count: UInt64, method: ATATransfer.Method
  ) -> ATATransfer {
    ATATransfer(
      direction: .toDrive, method: method, content: .parameters, count: count, command: command, registers: registers)
  }

  private func setMultiple(_ registers: ATARegisters) -> ATAStep {
    let count = registers.count & 0xff
    guard Self.isPossibleMultiple(count) else { return abort(registers) }
    state.multipleCount = count
    return .done(.success(registers))
  }

  private static func isPossibleMultiple(_ count: UInt16) -> Bool {
    count <= maximumMultiple && (count == 0 || count.nonzeroBitCount == 1)
  }

  /// A drive that stands still says so; the next access starts it again (ATA8-ACS, 7.3).
  private func setPowerMode(_ command: UInt8, _ registers: ATARegisters) -> ATAStep {
    var registers = registers
    switch command {
    case ATACommand.standby, ATACommand.standbyImmediate, ATACommand.sleep:
      state.isInStandby = true
      // What is in the cache goes to the medium before it stops.
      return .work(ATAWork(kind: .flush, registers: registers))
    case ATACommand.checkPowerMode: registers.count = state.isInStandby ? 0x00 : 0xff
    default: state.isInStandby = false
    }
    return .done(.success(registers))
  }
}
