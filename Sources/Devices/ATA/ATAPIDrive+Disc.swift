// The packet commands that tell of the disc: one session, one data track.

extension ATAPIDrive {
  private static let leadOut: UInt64 = 0xaa
  /// A data track without copy permission, positions in the Q channel.
  private static let dataTrack: UInt8 = 0x14

  /// An address as a block number, or as minutes, seconds and frames, two seconds of lead-in before block 0.
  private func position(_ block: UInt64, asTime: Bool) -> [UInt8] {
    guard asTime else { return bigEndian(block, 4) }
    let frames = block &+ 150
    return [
      0, UInt8(truncatingIfNeeded: min(frames / 4500, 255)), UInt8(truncatingIfNeeded: frames / 75 % 60),
      UInt8(truncatingIfNeeded: frames % 75),
    ]
  }

  private func withLength(_ body: [UInt8]) -> [UInt8] { bigEndian(UInt64(body.count), 2) + body }

  /// MMC-6, 6.25.
  func readTableOfContents(_ packet: PacketCommand) throws(SCSISense) -> ATAStep {
    try requireMedium()
    let asTime = packet[1] & 2 != 0
    let start = packet.number(6, width: 1)
    let allocation = packet.number(7, width: 2)
    // Old hosts have the format in the control byte.
    let format = packet[2] & 0xf != 0 ? packet[2] & 0xf : packet[9] >> 6
    switch format {
    case 0:
      guard start <= 1 || start == Self.leadOut else { throw .invalidField }
      var body: [UInt8] = [1, 1]
      if start <= 1 { body += [0, Self.dataTrack, 1, 0] + position(0, asTime: asTime) }
      body += [0, Self.dataTrack, UInt8(Self.leadOut), 0] + position(sectorCount, asTime: asTime)
      return packet.answer(withLength(body), allocation: allocation)
    case 1:
      return packet.answer(
        withLength([1, 1, 0, Self.dataTrack, 1, 0] + position(0, asTime: asTime)), allocation: allocation)
    case 2:
      guard start <= 1 else { throw .invalidField }
      // Session, ADR and control, 0, point, 0, 0, 0, 0, and the point's time.
      func entry(_ point: UInt8, _ time: [UInt8]) -> [UInt8] { [1, Self.dataTrack, 0, point, 0, 0, 0] + time }
      let body =
        [1, 1] + entry(0xa0, [0, 1, 0, 0]) + entry(0xa1, [0, 1, 0, 0])
        + entry(0xa2, position(sectorCount, asTime: true)) + entry(1, position(0, asTime: true))
      return packet.answer(withLength(body), allocation: allocation)
    default: throw .invalidField
    }
  }

  /// MMC-6, 6.22: the disc is finished and complete.
  func readDiscInformation(_ packet: PacketCommand) throws(SCSISense) -> ATAStep {
    guard packet[1] & 7 == 0 else { throw .invalidField }
    try requireMedium()
    var body = [UInt8](repeating: 0, count: 32)
    body[0] = 0x0e
    for index in 1...4 { body[index] = 1 }
    // Nobody needs permission to use it.
    body[5] = 0x20
    return packet.answer(withLength(body), allocation: packet.number(7, width: 2))
  }

  /// MMC-6, 6.27.
  func readTrackInformation(_ packet: PacketCommand) throws(SCSISense) -> ATAStep {
    try requireMedium()
    let address = packet.number(2, width: 4)
    switch packet[1] & 3 {
    case 0: guard address < sectorCount else { throw .addressOutOfRange }
    case 1, 2: guard address == 1 else { throw .invalidField }
    default: throw .invalidField
    }
    var body = [UInt8](repeating: 0, count: 34)
    body[0] = 1
    body[1] = 1
    // A data track, recorded in one go, mode 1.
    body[3] = 0x04
    body[4] = 0x01
    for (index, byte) in bigEndian(sectorCount, 4).enumerated() { body[22 + index] = byte }
    return packet.answer(withLength(body), allocation: packet.number(7, width: 2))
  }

  /// MMC-6, 6.26: no audio plays.
  func readSubchannel(_ packet: PacketCommand) throws(SCSISense) -> ATAStep {
    try requireMedium()
    let allocation = packet.number(7, width: 2)
    guard packet[2] & 0x40 != 0 else { return packet.answer([0, 0x15, 0, 0], allocation: allocation) }
    switch packet[3] {
    case 1:
      let start = position(0, asTime: packet[1] & 2 != 0)
      return packet.answer([0, 0x15, 0, 12, 1, Self.dataTrack, 1, 1] + start + start, allocation: allocation)
    // No catalogue number, no recording code.
    case 2, 3:
      return packet.answer(
        [0, 0x15, 0, 20, packet[3]] + [UInt8](repeating: 0, count: 19), allocation: allocation)
    default: throw .invalidField
    }
  }

  /// MMC-6, 6.23: physical format and copyright of a DVD.
  func readDVDStructure(_ packet: PacketCommand) throws(SCSISense) -> ATAStep {
    try requireMedium()
    guard isDVD else { throw .incompatibleMedium }
    guard packet[6] == 0 else { throw .invalidField }
    let allocation = packet.number(8, width: 2)
    switch packet[7] {
    case 0:
      var body = [UInt8](repeating: 0, count: 2 + 2048)
      // DVD-ROM, part version 1; 120 mm, rate not given; one layer, embossed.
      body[2] = 0x01
      body[3] = 0x0f
      body[4] = 0x01
      for (index, byte) in (bigEndian(0x30000, 4) + bigEndian(0x30000 + sectorCount - 1, 4)).enumerated() {
        body[6 + index] = byte
      }
      return packet.answer(withLength(body), allocation: allocation)
    // No protection, all regions.
    case 1: return packet.answer(withLength([0, 0, 0, 0, 0, 0]), allocation: allocation)
    default: throw .invalidField
    }
  }

  // MARK: Features (MMC-6, 6.6 and 5)

  func getConfiguration(_ packet: PacketCommand) throws(SCSISense) -> ATAStep {
    let (request, start) = (packet[1] & 3, UInt16(truncatingIfNeeded: packet.number(2, width: 2)))
    guard request != 3 else { throw .invalidField }
    let chosen = features.filter { feature in
      switch request {
      case 0: feature.number >= start
      case 1: feature.number >= start && feature.isCurrent
      default: feature.number == start
      }
    }
    let body = chosen.flatMap(\.descriptor)
    let header = bigEndian(UInt64(body.count + 4), 4) + [0, 0] + bigEndian(UInt64(currentProfile), 2)
    return packet.answer(header + body, allocation: packet.number(7, width: 2))
  }

  private static let profileCD: UInt16 = 0x0008
  private static let profileDVD: UInt16 = 0x0010

  private var currentProfile: UInt16 { !hasMedium ? 0 : isDVD ? Self.profileDVD : Self.profileCD }

  private var features: [Feature] {
    func profile(_ number: UInt16) -> [UInt8] {
      bigEndian(UInt64(number), 2) + [number == currentProfile ? 1 : 0, 0]
    }
    let isCD = currentProfile == Self.profileCD
    let isDVD = currentProfile == Self.profileDVD
    return [
      // The profiles, most capable first.
      Feature(
        number: 0x0000, version: 0, isCurrent: true, isPersistent: true,
        profile(Self.profileDVD) + profile(Self.profileCD)),
      // Core: the ATAPI interface; no events of the device itself.
      Feature(number: 0x0001, version: 2, isCurrent: true, isPersistent: true, [0, 0, 0, 2, 0, 0, 0, 0]),
      // Morphing: by asking.
      Feature(number: 0x0002, version: 1, isCurrent: true, isPersistent: true, [0, 0, 0, 0]),
      // Removable medium: a tray that can be locked and opened.
      Feature(number: 0x0003, version: 0, isCurrent: true, isPersistent: true, [0x29, 0, 0, 0]),
      // Random reading, sector by sector.
      Feature(
        number: 0x0010, version: 0, isCurrent: hasMedium, isPersistent: false,
        bigEndian(Self.sectorSize, 4) + [0, 1, 0, 0]),
      Feature(number: 0x001e, version: 2, isCurrent: isCD, isPersistent: false, [0, 0, 0, 0]),
      Feature(number: 0x001f, version: 0, isCurrent: isDVD, isPersistent: false, []),
    ]
  }

  private struct Feature {
    let number: UInt16
    let descriptor: [UInt8]
    let isCurrent: Bool

    init(number: UInt16, version: UInt8, isCurrent: Bool, isPersistent: Bool, _ body: [UInt8]) {
      self.number = number
      self.isCurrent = isCurrent
      let flags = version << 2 | (isPersistent ? 2 : 0) | (isCurrent ? 1 : 0)
      descriptor =
        [UInt8(truncatingIfNeeded: number >> 8), UInt8(truncatingIfNeeded: number), flags, UInt8(body.count)] + body
    }
  }
}
