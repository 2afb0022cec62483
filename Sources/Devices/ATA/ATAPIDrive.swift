import Machine

/// A CD-ROM and DVD-ROM drive that takes packet commands (ATA8-ACS, 7.18; MMC-6 and SPC-4 for the packets).
///
/// The disc has one session with one data track, as an ISO image is. It is a CD where it fits on one, else a DVD. The
/// guest can open and close the tray; the same disc lies in it.
final class ATAPIDrive: ATADevice {
  struct State: Codable, Equatable {
    var sense = SCSISense.none
    /// What the next command is told first.
    var attention: SCSISense? = .wasReset
    var isTrayOpen = false
    var isLocked = false
    /// An event that GET EVENT STATUS NOTIFICATION has not told yet.
    var mediaEvent = MediaEvent.none
    var transferMode = ATATransferMode()
    var isInStandby = false
  }

  enum MediaEvent: UInt8, Codable {
    case none = 0
    case newMedia = 2
    case removal = 3
  }

  static let sectorSize: UInt64 = 2048
  static let packetSize: UInt64 = 12
  /// A CD of 80 minutes has 75 sectors a second.
  private static let largestCD: UInt64 = 80 * 60 * 75

  let backend: any BlockBackend
  let serial: String
  let cable: ATADrive.Cable
  let sectorCount: UInt64
  var state = State()

  init(_ backend: any BlockBackend, serial: String, cable: ATADrive.Cable) {
    self.backend = backend
    self.serial = serial
    self.cable = cable
    // Addresses have 32 bits.
    sectorCount = min(backend.size / Self.sectorSize, 1 << 32 - 1)
  }

  var isDVD: Bool { sectorCount > Self.largestCD }
  var hasMedium: Bool { !state.isTrayOpen && sectorCount > 0 }

  var isPacketDevice: Bool { true }

  var signature: ATAOutcome {
    ATAOutcome(status: [], error: .diagnosticsPassed, registers: signed(ATARegisters()))
  }

  private func signed(_ registers: ATARegisters) -> ATARegisters {
    var registers = registers
    registers.count = 1
    registers.low = 1
    registers.byteCount = 0xeb14
    return registers
  }

  func reset(isHard: Bool) {
    guard isHard else {
      state.sense = .none
      state.isLocked = false
      return
    }
    state = State()
  }

  func save() -> ATADrive.State { .opticalDisc(state) }

  func restore(_ state: ATADrive.State) {
    guard case .opticalDisc(let saved) = state else { return reset(isHard: true) }
    self.state = saved
  }

  func noteQueuedFailure(tag: Int, _ outcome: ATAOutcome) {}

  // MARK: Commands

  func begin(_ command: UInt8, _ registers: ATARegisters) -> ATAStep {
    switch command {
    case ATACommand.packet:
      // Packets that may overlap are not for this drive.
      guard registers.features & 2 == 0 else { return .done(.failure(.aborted, registers)) }
      return .transfer(
        ATATransfer(
          direction: .toDrive, method: .pio, content: .parameters, count: Self.packetSize,
          blockSize: Int(Self.packetSize), command: command, registers: registers))
    case ATACommand.identifyPacketDevice:
      return .transfer(
        ATATransfer(
          direction: .toHost, method: .pio, content: .bytes(identification()), count: 512, command: command,
          registers: registers))
    case ATACommand.executeDiagnostic, ATACommand.deviceReset: return .done(signature)
    // Hosts that take it for a disk learn what it is.
    case ATACommand.identifyDevice, ATACommand.readSectors: return .done(.failure(.aborted, signed(registers)))
    case ATACommand.setFeatures: return setFeatures(registers)
    case ATACommand.oldPowerCommands, ATACommand.standbyImmediate...ATACommand.idle, ATACommand.checkPowerMode,
      ATACommand.sleep:
      return setPowerMode(ATACommand.modernPowerCommand(command), registers)
    default: return .done(.failure(.aborted, registers))
    }
  }

  func accept(_ bytes: [UInt8], for transfer: ATATransfer) -> ATAStep {
    state.isInStandby = false
    let packet = PacketCommand(bytes, transfer.registers)
    if packet.code != PacketCommand.Code.requestSense {
      state.sense = .none
      if let attention = state.attention, packet.isHeldUpByAttention {
        state.attention = nil
        return packet.failure(note(attention))
      }
    }
    do throws(SCSISense) {
      return try carryOut(packet)
    } catch {
      return packet.failure(note(error))
    }
  }

  private func note(_ sense: SCSISense) -> SCSISense {
    state.sense = sense
    return sense
  }

  func finish(_ transfer: ATATransfer) -> ATAStep {
    transfer.isPacket ? PacketCommand.success(transfer.registers) : .done(.success(transfer.registers))
  }

  func move(
    _ transfer: ATATransfer, position: UInt64, count: UInt64, memory: [BlockMemory],
    completion: @escaping (ATAMovement) -> Void
  ) {
    guard case .medium(let offset) = transfer.content else { preconditionFailure("there is no medium behind this") }
    backend.submit(BlockRequest(.read, offset: offset &+ position, count: count, memory: memory)) { [self] result in
      switch result {
      case .success: completion(.moved)
      case .badMemory: completion(.badMemory)
      case .outOfRange, .readOnly, .noSpace, .failed:
        state.sense = .unrecoveredReadError
        completion(.failed(PacketCommand.outcome(.unrecoveredReadError, transfer.registers)))
      }
    }
  }

  /// There is nothing to write back.
  func perform(_ work: ATAWork, completion: @escaping (ATAOutcome) -> Void) { completion(.success(work.registers)) }

  private func setFeatures(_ registers: ATARegisters) -> ATAStep {
    switch registers.features & 0xff {
    case 0x03 where state.transferMode.select(UInt8(truncatingIfNeeded: registers.count)):
      return .done(.success(registers))
    case 0x66, 0xcc: return .done(.success(registers))
    default: return .done(.failure(.aborted, registers))
    }
  }

  private func setPowerMode(_ command: UInt8, _ registers: ATARegisters) -> ATAStep {
    var registers = registers
    switch command {
    case ATACommand.checkPowerMode: registers.count = state.isInStandby ? 0x00 : 0xff
    case ATACommand.standby, ATACommand.standbyImmediate, ATACommand.sleep: state.isInStandby = true
    default: state.isInStandby = false
    }
    return .done(.success(registers))
  }

  /// IDENTIFY PACKET DEVICE data (ATA8-ACS, table 45).
  private func identification() -> [UInt8] {
    var data = ATAIdentification()
    // A removable CD-ROM drive that takes packets of 12 bytes and asks for them within 50 µs.
    data[0] = 0x85c0
    data.set(10, serial, words: 10)
    data.set(23, "1.0", words: 4)
    data.set(27, "RINGSIDE DVD-ROM", words: 20)
    // DMA, LBA, IORDY.
    data[49] = 0x0f00
    data[51] = 0x0200
    data[52] = 0x0200
    data[53] = 0x0006
    data[63] = state.transferMode.multiwordWord
    data[64] = 0x0003
    for word in 65...68 { data[word] = 120 }
    if cable == .serial {
      data[76] = 0x000e
      data[77] = 0x0006
    }
    data[80] = 0x01f0
    // Packet commands, power management, DEVICE RESET.
    data[82] = 0x0218
    data[83] = 0x4000
    data[84] = 0x4000
    data[85] = data[82]
    data[87] = 0x4000
    data[88] = state.transferMode.ultraWord
    if cable == .parallel { data[93] = 0x600b }
    return data.bytes
  }
}
