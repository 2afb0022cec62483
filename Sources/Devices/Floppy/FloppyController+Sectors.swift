import Machine

// Commands that move sectors. One sector at a time: find it, move it between image and buffer, and the buffer by DMA or
// through the data register; then the next, until DMA says that it is enough or the last sector of the track has been.

extension FloppyController {
  /// READ, WRITE, READ TRACK and VERIFY: command, drive and side, cylinder, head, sector, size, last sector, gap, length.
  func begin(_ command: Command, _ bytes: [UInt8]) {
    let kind: Transfer.Kind =
      switch command {
      case .writeData, .writeDeletedData: .write
      case .verify: .verify
      case .readTrack: .readTrack
      default: .read
      }
    var transfer = Transfer(
      kind: kind, drive: bytes[1] & 3, side: bytes[1] >> 2 & 1, cylinder: bytes[2], head: bytes[3], sector: bytes[4],
      sizeCode: bytes[5], last: bytes[6], isMultitrack: bytes[0] & 0x80 != 0 && kind != .readTrack)
    transfer.wantsDeleted = command == .readDeletedData
    if kind == .readTrack { transfer.sector = 1 }
    state.lastSector = bytes[6]
    // Implied seek (CONFIGURE).
    if state.configuration & 0x40 != 0, drives.indices.contains(Int(transfer.drive)) {
      state.cylinders[Int(transfer.drive)] = transfer.cylinder
      state.hasChanged[Int(transfer.drive)] = false
    }
    start(transfer)
  }

  /// FORMAT TRACK: command, drive and side, size, sectors, gap, filler. The identification of each sector comes as data.
  func beginFormat(_ bytes: [UInt8]) {
    let number = bytes[1] & 3
    state.lastSector = bytes[3]
    start(
      Transfer(
        kind: .format, drive: number, side: bytes[1] >> 2 & 1, cylinder: state.cylinders[Int(number)],
        head: bytes[1] >> 2 & 1, sector: 1, sizeCode: bytes[2], last: bytes[3], isMultitrack: false, filler: bytes[5]))
  }

  private func start(_ transfer: Transfer) {
    expectCommand()
    state.phase = .execution
    state.transfer = transfer
    moveSector()
  }

  /// Begins with the next sector.
  func moveSector() {
    guard let transfer = state.transfer else { return finish([]) }
    guard let drive = readableDrive(Int(transfer.drive)) else { return fail(Status.missingAddressMark) }
    switch transfer.kind {
    case .format:
      if drive.disk.isReadOnly { return fail(Status.notWritable) }
      transfer.last == 0 ? succeed() : takeData(count: 4)
    case .write:
      if drive.disk.isReadOnly { return fail(Status.notWritable) }
      guard place(transfer, drive) != nil else { return failToFind(transfer) }
      takeData(count: Self.sectorSize)
    case .read, .readTrack, .verify:
      guard let offset = place(transfer, drive) else { return failToFind(transfer) }
      let buffer = ATABuffer(count: Self.sectorSize)
      submit(drive, .read, at: offset, buffer) { [self] result in
        guard result == .success else { return fail(Status.dataError) }
        giveData(buffer)
      }
    }
  }

  /// Where the next sector is on the disk; nil: none passes under the head that is identified so.
  private func place(_ transfer: Transfer, _ drive: Drive) -> UInt64? {
    let cylinder = state.cylinders[Int(transfer.drive)]
    guard transfer.sizeCode == 2 else { return nil }
    if transfer.kind != .readTrack {
      guard transfer.cylinder == cylinder, transfer.head == transfer.side else { return nil }
    }
    return drive.format.offset(cylinder: cylinder, head: transfer.side, sector: transfer.sector)
  }

  private func failToFind(_ transfer: Transfer) {
    let isElsewhere = transfer.cylinder != state.cylinders[Int(transfer.drive)]
    fail(Status.noData, isElsewhere ? Status.wrongCylinder : 0)
  }

  // MARK: Data to the host

  private func giveData(_ buffer: ATABuffer) {
    guard let transfer = state.transfer else { return }
    if transfer.kind == .verify { return advance() }
    guard usesDMA else {
      state.data = buffer.contents
      state.dataPosition = 0
      return raiseInterrupt()
    }
    let (count, isTerminal) = dma.transfer(channel: Self.channel, .toMemory, buffer.bytes)
    guard count == Self.sectorSize || isTerminal else { return fail(Status.overrun) }
    state.transfer?.isTerminated = isTerminal
    advance()
  }

  func readSectorByte() -> UInt8 {
    guard !usesDMA, state.dataPosition < state.data.count, let transfer = state.transfer,
      transfer.kind == .read || transfer.kind == .readTrack
    else { return 0xff }
    let byte = state.data[state.dataPosition]
    state.dataPosition += 1
    if state.dataPosition == state.data.count {
      state.data = []
      clearInterrupt()
      advance()
    }
    return byte
  }

  // MARK: Data from the host

  private func takeData(count: Int) {
    let buffer = ATABuffer(count: count)
    guard usesDMA else {
      state.data = buffer.contents
      state.dataPosition = 0
      return raiseInterrupt()
    }
    let (moved, isTerminal) = dma.transfer(channel: Self.channel, .fromMemory, buffer.bytes)
    // What is missing of a last sector is zeros.
    guard moved == count || isTerminal else { return fail(Status.overrun) }
    state.transfer?.isTerminated = isTerminal
    store(buffer)
  }

  func writeSectorByte(_ value: UInt8) {
    guard !usesDMA, state.dataPosition < state.data.count, let transfer = state.transfer,
      transfer.kind == .write || transfer.kind == .format
    else { return }
    state.data[state.dataPosition] = value
    state.dataPosition += 1
    guard state.dataPosition == state.data.count else { return }
    let buffer = ATABuffer(state.data)
    state.data = []
    state.dataPosition = 0
    clearInterrupt()
    store(buffer)
  }

  private func store(_ buffer: ATABuffer) {
    guard let transfer = state.transfer, let drive = readableDrive(Int(transfer.drive)) else {
      return fail(Status.missingAddressMark)
    }
    guard transfer.kind == .format else {
      guard let offset = place(transfer, drive) else { return failToFind(transfer) }
      return write(buffer, to: drive, at: offset)
    }
    let identification = buffer.contents
    // A sector that the disk's layout does not have is formatted nowhere.
    guard identification.count == 4, identification[0] == transfer.cylinder, identification[1] == transfer.side,
      identification[3] == 2,
      let offset = drive.format.offset(
        cylinder: transfer.cylinder, head: transfer.side, sector: identification[2])
    else { return fail(Status.noData) }
    write(
      ATABuffer([UInt8](repeating: transfer.filler, count: Self.sectorSize)), to: drive, at: offset)
  }

  private func write(_ buffer: ATABuffer, to drive: Drive, at offset: UInt64) {
    submit(drive, .write, at: offset, buffer) { [self] result in
      guard result == .success else { return fail(result == .readOnly ? Status.notWritable : Status.dataError) }
      advance()
    }
  }

  // MARK: The next sector, and the end

  /// One sector is done.
  private func advance() {
    guard var transfer = state.transfer else { return }
    if transfer.kind == .format {
      transfer.last &-= 1
      state.transfer = transfer
      return transfer.last == 0 || transfer.isTerminated ? succeed() : moveSector()
    }
    if transfer.wantsDeleted {
      // It was none of those that were wanted.
      state.transfer = next(transfer)
      return conclude(0, 0, Status.controlMark)
    }
    let isLast = transfer.sector == transfer.last
    let endsTrack = isLast && !(transfer.isMultitrack && transfer.side == 0)
    state.transfer = next(transfer)
    if transfer.isTerminated || (endsTrack && transfer.kind == .verify) { return succeed() }
    // The guest wanted more than the track has.
    if endsTrack { return fail(Status.endOfCylinder) }
    moveSector()
  }

  /// What identifies the sector behind this one (82077AA data sheet, table 5-5).
  private func next(_ transfer: Transfer) -> Transfer {
    var next = transfer
    guard transfer.sector == transfer.last else {
      next.sector &+= 1
      return next
    }
    next.sector = 1
    if transfer.isMultitrack {
      next.head ^= 1
      if transfer.side == 0 { next.side = 1 } else { next.cylinder &+= 1 }
    } else {
      next.cylinder &+= 1
    }
    return next
  }

  private func succeed() { conclude(0, 0, 0) }

  private func fail(_ status1: UInt8, _ status2: UInt8 = 0) { conclude(Status.abnormal, status1, status2) }

  private func conclude(_ status0: UInt8, _ status1: UInt8, _ status2: UInt8) {
    guard let transfer = state.transfer else { return finish([]) }
    finish([
      status0 | transfer.side << 2 | transfer.drive, status1, status2, transfer.cylinder, transfer.head,
      transfer.sector,
      transfer.sizeCode,
    ])
    raiseInterrupt()
  }
}
