// The packet commands that read, move the tray, and say what the drive is.

extension ATAPIDrive {
  private typealias Code = PacketCommand.Code

  func carryOut(_ packet: PacketCommand) throws(SCSISense) -> ATAStep {
    switch packet.code {
    case Code.testUnitReady:
      try requireMedium()
      return PacketCommand.success(packet.registers)
    case Code.requestSense:
      defer { state.sense = .none }
      return packet.answer(state.sense.fixedFormat, allocation: packet.number(4, width: 1))
    case Code.inquiry: return try inquiry(packet)
    case Code.startStopUnit: return try startStop(packet)
    case Code.preventAllowRemoval:
      state.isLocked = packet[4] & 1 != 0
      return PacketCommand.success(packet.registers)
    case Code.readCapacity:
      try requireMedium()
      return packet.answer(bigEndian(sectorCount - 1, 4) + bigEndian(Self.sectorSize, 4), allocation: 8)
    case Code.read10: return try read(packet, first: packet.number(2, width: 4), count: packet.number(7, width: 2))
    case Code.read12: return try read(packet, first: packet.number(2, width: 4), count: packet.number(6, width: 4))
    case Code.readCD: return try readCD(packet)
    case Code.seek:
      try requireMedium()
      guard packet.number(2, width: 4) < sectorCount else { throw .addressOutOfRange }
      return PacketCommand.success(packet.registers)
    case Code.setSpeed: return PacketCommand.success(packet.registers)
    case Code.readSubchannel: return try readSubchannel(packet)
    case Code.readTableOfContents: return try readTableOfContents(packet)
    case Code.readDiscInformation: return try readDiscInformation(packet)
    case Code.readTrackInformation: return try readTrackInformation(packet)
    case Code.readDVDStructure: return try readDVDStructure(packet)
    case Code.getConfiguration: return try getConfiguration(packet)
    case Code.getEventStatus: return try getEventStatus(packet)
    case Code.modeSense6: return try modeSense(packet, headerSize: 4, allocation: packet.number(4, width: 1))
    case Code.modeSense10: return try modeSense(packet, headerSize: 8, allocation: packet.number(7, width: 2))
    case Code.mechanismStatus:
      // No changer, no slots, idle.
      return packet.answer([0, 0, 0, 0, 0, 1, 0, 0], allocation: packet.number(8, width: 2))
    default: throw .invalidCommand
    }
  }

  func requireMedium() throws(SCSISense) {
    guard !state.isTrayOpen else { throw .trayIsOpen }
    guard hasMedium else { throw .mediumNotPresent }
  }

  func bigEndian(_ value: UInt64, _ width: Int) -> [UInt8] {
    (0..<width).map { UInt8(truncatingIfNeeded: value >> UInt64(8 * (width - 1 - $0))) }
  }

  private func read(_ packet: PacketCommand, first: UInt64, count: UInt64) throws(SCSISense) -> ATAStep {
    try requireMedium()
    guard first <= sectorCount, count <= sectorCount - first else { throw .addressOutOfRange }
    return packet.answer(sectors: first..<first + count)
  }

  /// READ CD (MMC-6, 6.19): user data of data sectors; what surrounds them on a disc an image does not have.
  private func readCD(_ packet: PacketCommand) throws(SCSISense) -> ATAStep {
    // Expected sector type: any, mode 1, or mode 2 form 1.
    guard [0, 2, 4].contains(packet[1] >> 2 & 7), packet[10] & 7 == 0 else { throw .invalidField }
    switch packet[9] & 0xf8 {
    case 0x00:
      try requireMedium()
      return PacketCommand.success(packet.registers)
    case 0x10: return try read(packet, first: packet.number(2, width: 4), count: packet.number(6, width: 3))
    default: throw .invalidField
    }
  }

  /// SPC-4, 6.4.
  private func inquiry(_ packet: PacketCommand) throws(SCSISense) -> ATAStep {
    // There are no pages of vital product data.
    guard packet[1] & 1 == 0, packet[2] == 0 else { throw .invalidField }
    // A removable CD-ROM device, ATAPI version 2, 31 more bytes.
    let header: [UInt8] = [0x05, 0x80, 0x00, 0x21, 31, 0, 0, 0]
    return packet.answer(
      header + Array("RINGSIDEDVD-ROM         1.0 ".utf8), allocation: packet.number(3, width: 2))
  }

  /// MMC-6, 6.42: of spinning the guest notices nothing; of the tray it does.
  private func startStop(_ packet: PacketCommand) throws(SCSISense) -> ATAStep {
    let (starts, movesTray) = (packet[4] & 1 != 0, packet[4] & 2 != 0)
    if movesTray {
      if !starts {
        guard !state.isLocked else { throw .removalPrevented }
        if hasMedium { state.mediaEvent = .removal }
        state.isTrayOpen = true
      } else if state.isTrayOpen {
        state.isTrayOpen = false
        state.mediaEvent = hasMedium ? .newMedia : .none
        if hasMedium { state.attention = .mediumMayHaveChanged }
      }
    }
    return PacketCommand.success(packet.registers)
  }

  /// MMC-6, 6.8: media events, by asking for them.
  private func getEventStatus(_ packet: PacketCommand) throws(SCSISense) -> ATAStep {
    guard packet[1] & 1 != 0 else { throw .invalidField }
    let media: UInt8 = 1 << 4
    let allocation = packet.number(7, width: 2)
    guard packet[4] & media != 0 else {
      // No event of the classes that were asked for; those that there are.
      return packet.answer([0, 2, 0x80, media], allocation: allocation)
    }
    let event = state.mediaEvent
    if allocation > 4 { state.mediaEvent = .none }
    let status: UInt8 = (state.isTrayOpen ? 1 : 0) | (hasMedium ? 2 : 0)
    return packet.answer([0, 6, 4, media, event.rawValue, status, 0, 0], allocation: allocation)
  }

  // MARK: Mode pages (MMC-6, 6.11 and 7)

  private func modeSense(
    _ packet: PacketCommand, headerSize: Int, allocation: UInt64
  ) throws(SCSISense) -> ATAStep {
    let (control, page) = (packet[2] >> 6, packet[2] & 0x3f)
    // There are no saved values, and none can be changed.
    guard control != 3 else { throw .savingNotSupported }
    let pages = modePages.filter { page == 0x3f || page == $0[0] }
    guard !pages.isEmpty else { throw .invalidField }
    let body = pages.flatMap { control == 1 ? [$0[0], $0[1]] + [UInt8](repeating: 0, count: $0.count - 2) : $0 }
    // Medium type: data disc, no disc, tray open.
    let medium: UInt8 = hasMedium ? 0x01 : state.isTrayOpen ? 0x71 : 0x70
    let header: [UInt8] =
      headerSize == 4
      ? [UInt8(truncatingIfNeeded: body.count + 3), medium, 0, 0]
      : bigEndian(UInt64(body.count + 6), 2) + [medium, 0, 0, 0, 0, 0]
    return packet.answer(header + body, allocation: allocation)
  }

  private var modePages: [[UInt8]] {
    // Error recovery: the defaults, five retries.
    let recovery: [UInt8] = [0x01, 10, 0x00, 5, 0, 0, 0, 0, 0, 0, 0, 0]
    // Capabilities: reads CD-R, CD-RW, DVD-ROM, DVD-R; mode 2 and several sessions; a tray that can be locked.
    let mechanism: UInt8 = 0x29 | (state.isLocked ? 2 : 0)
    // 704 KB/s, four times a CD player's speed, at most and now; a buffer of 512 KiB.
    let capabilities: [UInt8] =
      [0x2a, 20, 0x1b, 0x00, 0x70, 0x00, mechanism, 0x00] + bigEndian(704, 2) + [0, 0] + bigEndian(512, 2)
      + bigEndian(704, 2) + [0, 0, 0, 0, 0, 0]
    return [recovery, capabilities]
  }
}
