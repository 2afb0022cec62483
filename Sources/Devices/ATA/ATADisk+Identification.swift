extension ATADisk {
  /// IDENTIFY DEVICE data (ATA8-ACS, table 29).
  func identification() -> [UInt8] {
    var data = ATAIdentification()
    // A fixed drive.
    data[0] = 0x0040
    data[1] = geometry.cylinders
    data[3] = geometry.heads
    data[6] = geometry.sectorsPerTrack
    data.set(10, serial, words: 10)
    data.set(23, "1.0", words: 4)
    data.set(27, "RINGSIDE HARDDISK", words: 20)
    data[47] = 0x8000 | Self.maximumMultiple
    // DMA, LBA, IORDY, standard values of the standby timer.
    data[49] = 0x2f00
    data[50] = 0x4000
    data[51] = 0x0200
    data[52] = 0x0200
    // Words 54 to 58, 64 to 70 and 88 mean something.
    data[53] = 0x0007
    let cylinders = ATAGeometry.cylinders(
      sectorCount, heads: state.heads, sectorsPerTrack: state.sectorsPerTrack, limit: isGeometryDefault ? 16383 : 65535)
    data[54] = cylinders
    data[55] = state.heads
    data[56] = state.sectorsPerTrack
    data.set(57, UInt64(cylinders) * UInt64(state.heads) * UInt64(state.sectorsPerTrack), words: 2)
    data[59] = state.multipleCount > 0 ? 0x0100 | state.multipleCount : 0
    data.set(60, min(sectorCount, 0x0fff_ffff), words: 2)
    data[63] = state.transferMode.multiwordWord
    // PIO modes 3 and 4, cycles of 120 ns.
    data[64] = 0x0003
    for word in 65...68 { data[word] = 120 }
    if cable == .serial {
      data[75] = Self.queueDepth - 1
      // Queuing, at 1.5, 3 and 6 Gbit/s; now at 6.
      data[76] = 0x010e
      data[77] = 0x0006
    }
    setFeatureWords(&data)
    data[88] = state.transferMode.ultraWord
    // Device 0 passed its diagnostics and found an 80-conductor cable.
    if cable == .parallel { data[93] = 0x600b }
    data.set(100, sectorCount, words: 4)
    data[105] = UInt16(Self.maximumTrimBlocks)
    // Physical sectors are logical ones.
    data[106] = 0x4000
    data[169] = backend.isReadOnly ? 0 : 1
    // Nothing rotates.
    data[217] = 1
    return data.bytes
  }

  private var isGeometryDefault: Bool {
    state.heads == geometry.heads && state.sectorsPerTrack == geometry.sectorsPerTrack
  }

  /// Words 80 to 87: the standards ATA-4 to ATA8-ACS, command sets supported and enabled.
  private func setFeatureWords(_ data: inout ATAIdentification) {
    data[80] = 0x01f0
    // SMART, power management, write cache, look-ahead, READ and WRITE BUFFER.
    data[82] = 0x3069
    // 48-bit addresses, FLUSH CACHE and FLUSH CACHE EXT.
    data[83] = 0x7400
    // The general-purpose log, forced writes.
    data[84] = 0x4060
    data[85] = data[82] & ~0x0061
    if state.hasSMART { data[85] |= 1 << 0 }
    if !state.writesThrough { data[85] |= 1 << 5 }
    if state.looksAhead { data[85] |= 1 << 6 }
    data[86] = 0x3400
    data[87] = 0x4060
  }
}
