import Machine

// Reading, writing and trimming sectors.

extension ATADisk {
  private typealias Command = ATACommand

  /// The shape of a command that moves sectors.
  private struct Access {
    var direction: ATATransfer.Direction
    var method: ATATransfer.Method = .pio
    var isExtended = false
    var isMultiple = false
    var isForced = false
  }

  private func access(_ command: UInt8, _ registers: ATARegisters) -> Access {
    switch command {
    case Command.readSectors, Command.readSectorsNoRetry: Access(direction: .toHost)
    case Command.readSectorsExtended: Access(direction: .toHost, isExtended: true)
    case Command.readMultiple: Access(direction: .toHost, isMultiple: true)
    case Command.readMultipleExtended: Access(direction: .toHost, isExtended: true, isMultiple: true)
    case Command.readDMA, Command.readDMANoRetry: Access(direction: .toHost, method: .dma)
    case Command.readDMAExtended: Access(direction: .toHost, method: .dma, isExtended: true)
    case Command.writeSectorsExtended: Access(direction: .toDrive, isExtended: true)
    case Command.writeMultiple: Access(direction: .toDrive, isMultiple: true)
    case Command.writeMultipleExtended: Access(direction: .toDrive, isExtended: true, isMultiple: true)
    case Command.writeMultipleForcedExtended:
      Access(direction: .toDrive, isExtended: true, isMultiple: true, isForced: true)
    case Command.writeDMA, Command.writeDMANoRetry: Access(direction: .toDrive, method: .dma)
    case Command.writeDMAExtended: Access(direction: .toDrive, method: .dma, isExtended: true)
    case Command.writeDMAForcedExtended: Access(direction: .toDrive, method: .dma, isExtended: true, isForced: true)
    case Command.readQueued: Access(direction: .toHost, method: .queued(tag: Int(registers.count >> 3 & 0x1f)))
    case Command.writeQueued:
      // Bit 7 of the device register: FUA.
      Access(
        direction: .toDrive, method: .queued(tag: Int(registers.count >> 3 & 0x1f)),
        isForced: registers.device & 0x80 != 0)
    default: Access(direction: .toDrive)
    }
  }

  func beginAccess(_ command: UInt8, _ registers: ATARegisters) -> ATAStep {
    let access = access(command, registers)
    let isQueued = command == Command.readQueued || command == Command.writeQueued
    if isQueued, cable != .serial { return abort(registers) }
    if access.isMultiple, state.multipleCount == 0 { return abort(registers) }
    let sectors: Range<UInt64>?
    if isQueued {
      // The features register has the count, the count register the tag (ATA8-ACS, 7.34).
      sectors = range(registers.lba48, count: registers.features == 0 ? 65536 : UInt64(registers.features))
    } else {
      sectors = range(registers, isExtended: access.isExtended)
    }
    guard let sectors else { return .done(.failure(.notFound, registers)) }
    state.isInStandby = false
    return .transfer(
      ATATransfer(
        direction: access.direction, method: access.method,
        content: .medium(offset: sectors.lowerBound * Self.sectorSize),
        count: UInt64(sectors.count) * Self.sectorSize,
        blockSize: access.isMultiple ? Int(state.multipleCount) * 512 : 512,
        command: command, registers: registers,
        isForced: access.direction == .toDrive && (access.isForced || state.writesThrough)))
  }

  func verify(_ command: UInt8, _ registers: ATARegisters) -> ATAStep {
    guard range(registers, isExtended: command == Command.readVerifyExtended) != nil else {
      return .done(.failure(.notFound, registers))
    }
    state.isInStandby = false
    return .done(.success(registers))
  }

  /// The sectors that a command names, by whichever addressing it uses; nil where not all of them are on the disk.
  private func range(_ registers: ATARegisters, isExtended: Bool) -> Range<UInt64>? {
    if isExtended { return range(registers.lba48, count: registers.count48) }
    if registers.usesLBA { return range(registers.lba28, count: registers.count28) }
    return address(registers).flatMap { range($0, count: registers.count28) }
  }

  private func range(_ first: UInt64, count: UInt64) -> Range<UInt64>? {
    first < sectorCount && count <= sectorCount - first ? first..<(first + count) : nil
  }

  /// The sector at a cylinder, head and sector number; nil where the geometry has none there.
  private func address(_ registers: ATARegisters) -> UInt64? {
    let (sector, head) = (UInt64(registers.low & 0xff), UInt64(registers.device & ATARegisters.Device.head))
    let (heads, sectors) = (UInt64(state.heads), UInt64(state.sectorsPerTrack))
    guard sector > 0, sector <= sectors, head < heads else { return nil }
    return (UInt64(registers.byteCount) * heads + head) * sectors + sector - 1
  }

  // MARK: The medium

  func move(
    _ transfer: ATATransfer, position: UInt64, count: UInt64, memory: [BlockMemory],
    completion: @escaping (ATAMovement) -> Void
  ) {
    guard case .medium(let offset) = transfer.content else { preconditionFailure("there is no medium behind this") }
    let isWrite = transfer.direction == .toDrive
    backend.submit(
      BlockRequest(isWrite ? .write : .read, offset: offset &+ position, count: count, memory: memory)
    ) { [self] result in
      switch result {
      case .success: completion(.moved)
      case .badMemory: completion(.badMemory)
      case .outOfRange, .readOnly, .noSpace, .failed:
        completion(.failed(outcome(of: result, transfer, sector: (offset &+ position) / Self.sectorSize)))
      }
    }
  }

  private func outcome(of result: BlockResult, _ transfer: ATATransfer, sector: UInt64) -> ATAOutcome {
    var registers = transfer.registers
    // Where it happened. Commands in cylinders and heads keep their address.
    switch access(transfer.command, registers) {
    case let access where access.isExtended: registers.lba48 = sector
    case let access where access.method == .pio || access.method == .dma:
      if registers.usesLBA { registers.lba28 = sector }
    default: registers.lba48 = sector
    }
    switch result {
    case .outOfRange: return .failure(.notFound, registers)
    case .readOnly: return .failure(.aborted, registers)
    default: return transfer.direction == .toHost ? .failure(.uncorrectable, registers) : .fault(registers)
    }
  }

  func perform(_ work: ATAWork, completion: @escaping (ATAOutcome) -> Void) {
    switch work.kind {
    case .flush:
      backend.submit(BlockRequest(.flush)) {
        completion($0 == .success ? .success(work.registers) : .fault(work.registers))
      }
    case .discard(let ranges):
      guard !ranges.isEmpty else { return completion(.success(work.registers)) }
      var (remaining, outcome) = (ranges.count, ATAOutcome.success(work.registers))
      for range in ranges {
        let request = BlockRequest(.discard, offset: range.lowerBound, count: UInt64(range.count))
        backend.submit(request) {
          if $0 == .readOnly { outcome = .failure(.aborted, work.registers) }
          if $0 != .success, !outcome.isFailure { outcome = .fault(work.registers) }
          remaining -= 1
          if remaining == 0 { completion(outcome) }
        }
      }
    }
  }

  // MARK: TRIM (ATA8-ACS, 7.10)

  func beginTrim(_ registers: ATARegisters) -> ATAStep {
    let blocks = registers.count48
    guard registers.features & 1 != 0, blocks <= Self.maximumTrimBlocks else { return abort(registers) }
    return .transfer(parameters(Command.dataSetManagement, registers, count: blocks * 512, method: .dma))
  }

  /// Entries of eight bytes: 48 bits of address, 16 bits of count. Those without a count are nothing.
  func trim(_ bytes: [UInt8], _ registers: ATARegisters) -> ATAStep {
    var ranges: [Range<UInt64>] = []
    for start in stride(from: 0, to: bytes.count & ~7, by: 8) {
      let entry = (0..<8).reduce(UInt64(0)) { $0 | UInt64(bytes[start + $1]) << UInt64(8 * $1) }
      guard entry >> 48 > 0 else { continue }
      guard let range = range(entry & 0xffff_ffff_ffff, count: entry >> 48) else {
        return .done(.failure(.notFound, registers))
      }
      ranges.append(range.lowerBound * Self.sectorSize..<range.upperBound * Self.sectorSize)
    }
    return .work(ATAWork(kind: .discard(ranges), registers: registers))
  }
}
