// What a host can set and ask besides data: features, geometry, logs, SMART.

extension ATADisk {
  /// SET FEATURES (ATA8-ACS, 7.45).
  func setFeatures(_ registers: ATARegisters) -> ATAStep {
    switch registers.features & 0xff {
    case 0x02: state.writesThrough = false
    case 0x82:
      state.writesThrough = true
      // What is in the cache goes to the medium.
      return .work(ATAWork(kind: .flush, registers: registers))
    case 0x03:
      guard state.transferMode.select(UInt8(truncatingIfNeeded: registers.count)) else { return abort(registers) }
    case 0x55: state.looksAhead = false
    case 0xaa: state.looksAhead = true
    // Whether a software reset puts settings back: it never does.
    case 0x66, 0xcc: break
    default: return abort(registers)
    }
    return .done(.success(registers))
  }

  /// INITIALIZE DEVICE PARAMETERS (ATA-5, 8.16).
  func setGeometry(_ registers: ATARegisters) -> ATAStep {
    let sectors = registers.count & 0xff
    guard sectors > 0 else { return abort(registers) }
    state.sectorsPerTrack = sectors
    state.heads = UInt16(registers.device & ATARegisters.Device.head) + 1
    return .done(.success(registers))
  }

  /// The last sector's address.
  func readNativeMaximum(_ command: UInt8, _ registers: ATARegisters) -> ATAStep {
    var registers = registers
    let last = sectorCount - min(1, sectorCount)
    if command == ATACommand.readNativeMaximumExtended {
      registers.lba48 = last
    } else {
      guard registers.usesLBA else { return abort(registers) }
      registers.lba28 = min(last, 0x0fff_ffff)
    }
    return .done(.success(registers))
  }

  // MARK: Logs (ATA8-ACS, 7.24 and annex A)

  /// READ LOG EXT: the directory, and what failed in the queue.
  func readLog(_ registers: ATARegisters) -> ATAStep {
    // One page, and the first: the middle register has its number.
    guard registers.mid == 0, registers.count == 1 else { return abort(registers) }
    switch registers.low & 0xff {
    case 0x00:
      var directory = [UInt8](repeating: 0, count: 512)
      // Version 1; log 0x10 has one page.
      directory[0] = 1
      directory[0x20] = 1
      return give(directory, ATACommand.readLogExtended, registers)
    case 0x10 where cable == .serial:
      defer { state.queueErrorLog = [] }
      let log = state.queueErrorLog.isEmpty ? queueErrorLog(tag: nil, .success(ATARegisters())) : state.queueErrorLog
      return give(log.resized(to: 512, with: 0), ATACommand.readLogExtended, registers)
    default: return abort(registers)
    }
  }

  /// The page of log 0x10; `tag` is nil where nothing has failed in the queue.
  func queueErrorLog(tag: Int?, _ outcome: ATAOutcome) -> [UInt8] {
    var page = [UInt8](repeating: 0, count: 512)
    page[0] = tag.map { UInt8(truncatingIfNeeded: $0 & 0x1f) } ?? 0x80
    page[2] = outcome.status.rawValue
    page[3] = outcome.error.rawValue
    let address = outcome.registers.lba48
    for (index, shift) in [0, 8, 16].enumerated() {
      page[4 + index] = UInt8(truncatingIfNeeded: address >> UInt64(shift))
      page[8 + index] = UInt8(truncatingIfNeeded: address >> UInt64(shift + 24))
    }
    page[7] = outcome.registers.device
    page[12] = UInt8(truncatingIfNeeded: outcome.registers.count)
    page[511] = 0 &- page[..<511].reduce(0, &+)
    return page
  }

  // MARK: SMART (ATA-5, 8.41; ATA8-ACS, 7.49)

  func smart(_ registers: ATARegisters) -> ATAStep {
    guard registers.byteCount == 0xc24f else { return abort(registers) }
    let function = registers.features & 0xff
    if function == 0xd8 { state.hasSMART = true }
    guard state.hasSMART else { return abort(registers) }
    switch function {
    case 0xd0: return give(smartData(), ATACommand.smart, registers)
    case 0xd1: return give(checked([UInt8](repeating: 0, count: 512), version: 0x10), ATACommand.smart, registers)
    // Attributes are saved by themselves or not, which nobody can tell.
    case 0xd2: state.savesSMARTAttributes = registers.count & 0xff != 0
    case 0xd3: break
    // Self-tests end at once and find nothing.
    case 0xd4: break
    case 0xd5: return readSMARTLog(registers)
    case 0xd8: break
    case 0xd9: state.hasSMART = false
    // Nothing is about to fail: the signature comes back as it is.
    case 0xda: break
    default: return abort(registers)
    }
    return .done(.success(registers))
  }

  /// No attributes; off-line collection and self-tests have ended well, and take a minute.
  private func smartData() -> [UInt8] {
    var data = [UInt8](repeating: 0, count: 512)
    data[362] = 0x02
    data[367] = 0x19
    data[368] = 0x03
    data[370] = 0x01
    data[372] = 1
    data[373] = 1
    return checked(data, version: 0x10)
  }

  /// The directory, and the summary error log and self-test log without entries.
  private func readSMARTLog(_ registers: ATARegisters) -> ATAStep {
    guard registers.count & 0xff == 1 else { return abort(registers) }
    var log = [UInt8](repeating: 0, count: 512)
    switch registers.low & 0xff {
    case 0x00:
      log[0] = 1
      log[2 * 1] = 1
      log[2 * 6] = 1
      return give(log, ATACommand.smart, registers)
    case 0x01: log = checked(log, version: 1)
    case 0x06: log = checked(log, version: 1)
    default: return abort(registers)
    }
    return give(log, ATACommand.smart, registers)
  }

  private func checked(_ data: [UInt8], version: UInt8) -> [UInt8] {
    var data = data
    data[0] = version
    data[511] = 0 &- data[..<511].reduce(0, &+)
    return data
  }
}
