import Memory
import TestSupport
import Testing
import X86

@testable import Devices

/// An IDE controller with a disk as drive 0 of the first channel and a disc in a drive that is drive 0 of the second one,
/// and what a driver does with them. Offsets are those of the first channel unless told otherwise.
final class IDEBench {
  let platform: FakePlatform
  let disk: FakeBlockBackend
  let disc: FakeBlockBackend
  let ide: IDEController
  let lines: [RecordedLine]

  /// Sectors of the disk and blocks of the disc.
  static let sectors: UInt64 = 4096
  static let blocks: UInt64 = 256

  init(second: ATADrive? = nil) throws {
    platform = try FakePlatform()
    disk = FakeBlockBackend(size: Self.sectors * 512, memory: platform.memory)
    disc = FakeBlockBackend(size: Self.blocks * 2048, memory: platform.memory, isReadOnly: true)
    let lines = (0..<2).map { [clock = platform.clock] _ in RecordedLine(clock: clock) }
    self.lines = lines
    let drives: [ATADrive?] = [
      .disk(disk, serial: "SN1", cable: .parallel), second, .opticalDrive(disc, serial: "SN2", cable: .parallel),
    ]
    ide = platform.start(IDEController(drives: drives, interrupts: lines.map(\.line)))
    // I/O, bus master.
    ide.pci.write(4, 5)
  }

  func read(_ offset: UInt64, channel: Int = 0) -> UInt8 {
    UInt8(truncatingIfNeeded: ide.peek(offset, region: 2 * channel))
  }

  func write(_ offset: UInt64, _ value: UInt8, channel: Int = 0) {
    ide.poke(offset, UInt64(value), region: 2 * channel)
  }

  func control(_ value: UInt8, channel: Int = 0) { ide.poke(0, UInt64(value), region: 2 * channel + 1) }

  func alternateStatus(channel: Int = 0) -> UInt8 { UInt8(truncatingIfNeeded: ide.peek(0, region: 2 * channel + 1)) }

  /// A 28-bit command.
  func command(_ code: UInt8, lba: UInt64 = 0, count: UInt8 = 1, features: UInt8 = 0, channel: Int = 0) {
    write(6, 0xe0 | UInt8(lba >> 24), channel: channel)
    write(1, features, channel: channel)
    write(2, count, channel: channel)
    for index in 0..<3 { write(3 + UInt64(index), UInt8(truncatingIfNeeded: lba >> (8 * index)), channel: channel) }
    write(7, code, channel: channel)
  }

  /// A 48-bit command.
  func command48(_ code: UInt8, lba: UInt64, count: UInt16 = 1, features: UInt16 = 0) {
    write(6, 0x40)
    for shift in [8, 0] {
      write(1, UInt8(truncatingIfNeeded: features >> shift))
      write(2, UInt8(truncatingIfNeeded: count >> shift))
      for index in 0..<3 {
        write(3 + UInt64(index), UInt8(truncatingIfNeeded: lba >> UInt64(8 * index + (shift == 8 ? 24 : 0))))
      }
    }
    write(7, code)
  }

  func words(_ count: Int, channel: Int = 0) -> [UInt16] {
    (0..<count).map { _ in UInt16(truncatingIfNeeded: ide.peek(0, size: 2, region: 2 * channel)) }
  }

  func bytes(_ count: Int, channel: Int = 0) -> [UInt8] {
    words((count + 1) / 2, channel: channel).flatMap { [UInt8($0 & 0xff), UInt8($0 >> 8)] }.prefix(count).map { $0 }
  }

  func send(_ bytes: [UInt8], channel: Int = 0) {
    for index in stride(from: 0, to: bytes.count, by: 2) {
      let high = index + 1 < bytes.count ? UInt64(bytes[index + 1]) : 0
      ide.poke(0, UInt64(bytes[index]) | high << 8, size: 2, region: 2 * channel)
    }
  }

  /// The status register is read, which acknowledges the interrupt; whether there was one.
  func takeInterrupt(channel: Int = 0) -> Bool {
    let level = lines[channel].level
    _ = read(7, channel: channel)
    return level
  }

  // MARK: Packets, on the second channel

  /// Begins a packet command; the disk's request, if any, is not completed.
  func packet(_ bytes: [UInt8], limit: UInt16 = 0xfffe, usesDMA: Bool = false) {
    write(6, 0xa0, channel: 1)
    write(1, usesDMA ? 1 : 0, channel: 1)
    write(4, UInt8(limit & 0xff), channel: 1)
    write(5, UInt8(limit >> 8), channel: 1)
    write(7, 0xa0, channel: 1)
    send(bytes + [UInt8](repeating: 0, count: 12 - bytes.count), channel: 1)
  }

  /// All data blocks of a packet command, as a driver by PIO reads them.
  func packetData() -> [UInt8] {
    var result: [UInt8] = []
    while true {
      disc.completeAll()
      guard read(7, channel: 1) & 8 != 0, read(2, channel: 1) & 3 == 2 else { return result }
      result += bytes(Int(read(4, channel: 1)) | Int(read(5, channel: 1)) << 8, channel: 1)
    }
  }

  /// The answer to a packet command; nil where it fails.
  func answer(_ bytes: [UInt8]) -> [UInt8]? {
    packet(bytes)
    let data = packetData()
    return read(7, channel: 1) & 1 == 0 ? data : nil
  }

  /// Key, code and qualifier.
  func sense() -> [UInt8] {
    let data = answer([3, 0, 0, 0, 18]) ?? []
    return data.count == 18 ? [data[2], data[12], data[13]] : []
  }

  // MARK: The bus master of the first channel

  static let table: UInt64 = 0x1000

  /// Puts a table of regions in memory, of an address and a size each, and points the bus master to it.
  func regions(_ regions: [(UInt64, UInt64)], channel: UInt64 = 0, at table: UInt64 = IDEBench.table) {
    for (index, region) in regions.enumerated() {
      let last: UInt64 = index == regions.count - 1 ? 1 << 63 : 0
      #expect(
        platform.memory.store(region.0 | region.1 << 32 | last, at: GuestPhysicalAddress(table + UInt64(8 * index))))
    }
    ide.poke(8 * channel + 4, table, size: 4, region: 4)
  }

  func startBusMaster(toMemory: Bool, channel: UInt64 = 0) {
    ide.poke(8 * channel, toMemory ? 9 : 1, region: 4)
  }

  func busMasterStatus(channel: UInt64 = 0) -> UInt8 { UInt8(truncatingIfNeeded: ide.peek(8 * channel + 2, region: 4)) }

  func memory(_ address: UInt64, count: Int) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: count)
    #expect(bytes.withUnsafeMutableBytes { platform.memory.read(GuestPhysicalAddress(address), into: $0) })
    return bytes
  }

  func fill(_ address: UInt64, _ bytes: [UInt8]) {
    #expect(bytes.withUnsafeBytes { platform.memory.write(GuestPhysicalAddress(address), from: $0) })
  }
}
