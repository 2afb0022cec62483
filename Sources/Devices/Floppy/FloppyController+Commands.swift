// Commands and results, byte by byte, and the commands that move no sectors.

extension FloppyController {
  func readData() -> UInt8 {
    switch state.phase {
    case .command: return 0xff
    case .execution: return readSectorByte()
    case .result:
      guard state.position < state.bytes.count else { return 0xff }
      let byte = state.bytes[state.position]
      state.position += 1
      clearInterrupt()
      if state.position == state.bytes.count { expectCommand() }
      return byte
    }
  }

  func writeData(_ value: UInt8) {
    switch state.phase {
    case .result: break
    case .execution: writeSectorByte(value)
    case .command:
      state.bytes.append(value)
      let code = state.bytes[0]
      guard let command = Command(rawValue: code & 0x1f) else { return finish([Status.invalid]) }
      if state.bytes.count == 1 + command.parameterCount { execute(command, state.bytes) }
    }
  }

  /// Nothing is under way any more.
  func expectCommand() {
    state.phase = .command
    state.bytes = []
    state.position = 0
    state.transfer = nil
    state.data = []
    state.dataPosition = 0
  }

  /// The command is over; a result without bytes is none.
  func finish(_ result: [UInt8]) {
    expectCommand()
    guard !result.isEmpty else { return }
    state.phase = .result
    state.bytes = result
  }

  private func execute(_ command: Command, _ bytes: [UInt8]) {
    switch command {
    case .specify:
      state.timing = [bytes[1], bytes[2]]
      finish([])
    case .senseDriveStatus: finish([driveStatus(bytes[1])])
    case .recalibrate: move(drive: bytes[1] & 3, side: 0, to: 0)
    case .seek: seek(bytes)
    case .senseInterruptStatus: senseInterrupt()
    case .dumpRegisters: finish(registers)
    case .version: finish([0x90])
    case .perpendicularMode:
      // Bits for single drives change with the bit that allows it.
      state.perpendicular =
        bytes[1] & 0x80 != 0 ? bytes[1] & 0x3f : state.perpendicular & 0x3c | bytes[1] & 3
      finish([])
    case .configure:
      state.configuration = bytes[2] & 0x7f
      state.precompensation = bytes[3]
      finish([])
    case .lock:
      state.isLocked = bytes[0] & 0x80 != 0
      finish([state.isLocked ? 0x10 : 0])
    case .readID: readID(bytes)
    case .readTrack, .readData, .readDeletedData, .verify, .writeData, .writeDeletedData: begin(command, bytes)
    case .formatTrack: beginFormat(bytes)
    }
  }

  private func driveStatus(_ selection: UInt8) -> UInt8 {
    let number = Int(selection & 3)
    var status = selection & 7 | Status.ready | Status.twoSided
    if state.cylinders[number] == 0 { status |= Status.trackZero }
    if drives.indices.contains(number) {
      if drives[number].disk.isReadOnly { status |= Status.writeProtected }
    } else {
      status &= ~Status.trackZero
    }
    return status
  }

  private func seek(_ bytes: [UInt8]) {
    let drive = bytes[1] & 3
    let isRelative = bytes[0] & 0x80 != 0
    let current = state.cylinders[Int(drive)]
    let target: UInt8
    if !isRelative {
      target = bytes[2]
    } else if bytes[0] & 0x40 != 0 {
      target = UInt8(clamping: Int(current) + Int(bytes[2]))
    } else {
      target = UInt8(clamping: Int(current) - Int(bytes[2]))
    }
    move(drive: drive, side: bytes[1] >> 2 & 1, to: target)
  }

  /// Moves a head, and interrupts. Where there is no drive, no head arrives at cylinder 0.
  private func move(drive: UInt8, side: UInt8, to cylinder: UInt8) {
    finish([])
    let number = Int(drive)
    let isThere = drives.indices.contains(number)
    if isThere {
      state.cylinders[number] = cylinder
      state.hasChanged[number] = false
    }
    let failure = isThere || cylinder != 0 ? 0 : Status.abnormal | Status.equipmentCheck
    state.news.removeAll { $0 & 3 == drive }
    state.news.append(Status.seekEnd | side << 2 | drive | failure)
    raiseInterrupt()
  }

  /// Without news, the command is an invalid one.
  private func senseInterrupt() {
    guard !state.news.isEmpty else { return finish([Status.invalid]) }
    let status = state.news.removeFirst()
    finish([status, state.cylinders[Int(status & 3)]])
    clearInterrupt()
  }

  private var registers: [UInt8] {
    state.cylinders + state.timing + [
      state.lastSector, (state.isLocked ? 0x80 : 0) | state.perpendicular, state.configuration, state.precompensation,
    ]
  }

  /// The identification of the next sector that passes under the head.
  private func readID(_ bytes: [UInt8]) {
    let (number, side) = (Int(bytes[1] & 3), bytes[1] >> 2 & 1)
    let cylinder = state.cylinders[number]
    let unreadable = [Status.abnormal | bytes[1] & 7, Status.missingAddressMark, 0, cylinder, side, 1, 2]
    guard let drive = readableDrive(number), side < drive.format.heads, cylinder < drive.format.cylinders else {
      finish(unreadable)
      return raiseInterrupt()
    }
    state.passingSector = state.passingSector % drive.format.sectors + 1
    finish([bytes[1] & 7, 0, 0, cylinder, side, state.passingSector, 2])
    raiseInterrupt()
  }

  /// The drive, if there is one and the data rate is right for the disk in it.
  func readableDrive(_ number: Int) -> Drive? {
    guard drives.indices.contains(number), drives[number].format.rates.contains(state.rate) else { return nil }
    return drives[number]
  }
}
