import Devices
import Machine
import TestSupport

/// A driver of an IDE or AHCI controller with a disk and a disc, an honest one or not.
final class DriveGuest: DiskControllerGuest {
  private let bench: DeviceBench
  let device: any PCIFunction
  private let isAHCI: Bool

  private static let list: UInt64 = 0x1_0000
  private static let received: UInt64 = 0x1_1000
  private static let table: UInt64 = 0x2_0000
  private static let spacing: UInt64 = 0x1_0000
  private static let data: UInt64 = 0x4_0000

  /// Commands that lead somewhere (ATA8-ACS), among all others.
  private static let commands: [UInt8] = [
    0x06, 0x20, 0x24, 0x25, 0x29, 0x30, 0x34, 0x35, 0x39, 0x60, 0x61, 0x90, 0xa0, 0xa1, 0xc4, 0xc5, 0xc6, 0xc8, 0xca,
    0xe7, 0xec, 0xef,
  ]
  private static let packets: [UInt8] = [0x00, 0x03, 0x12, 0x1b, 0x25, 0x28, 0x43, 0x46, 0x4a, 0x5a, 0xa8]

  init(_ bench: DeviceBench, isAHCI: Bool) {
    self.bench = bench
    self.isAHCI = isAHCI
    let cable = isAHCI ? ATADrive.Cable.serial : .parallel
    let disk = ATADrive.disk(bench.disk, serial: "fuzz", cable: cable)
    let disc = ATADrive.opticalDrive(bench.disc, serial: "fuzz", cable: cable)
    if isAHCI {
      device = bench.platform.start(AHCIController(drives: [disk, disc]))
    } else {
      let lines = (0..<2).map { _ in InterruptLine { _ in } }
      device = bench.platform.start(IDEController(drives: [disk, nil, disc], interrupts: lines))
    }
  }

  private func set(_ region: Int, _ offset: UInt64, _ value: UInt64, size: Int) {
    device.write(region: region, offset: offset, size: size, value: value)
  }

  private func port(_ port: UInt64, _ offset: UInt64, _ value: UInt64) {
    set(0, 0x100 + 0x80 * port + offset, value, size: 4)
  }

  /// Makes the controller ready.
  func start() {
    device.reset()
    bench.settle()
    device.pci.write(4, 7)
    guard isAHCI else { return }
    set(0, 4, 1 << 31 | 2, size: 4)
    for number in 0..<2 as Range<UInt64> {
      port(number, 0x00, Self.list + Self.spacing * number)
      port(number, 0x08, Self.received + Self.spacing * number)
      port(number, 0x18, 0x10)
      port(number, 0x30, 0xffff_ffff)
      port(number, 0x10, 0xffff_ffff)
      port(number, 0x14, 0xffff_ffff)
      port(number, 0x18, 0x11)
    }
  }

  func submitAnything() {
    let code = bench.random.oneIn(8) ? bench.random.byte() : bench.random.pick(Self.commands)
    let lba = bench.random.oneIn(8) ? bench.random.next() & 0xffff_ffff_ffff : UInt64(bench.random.below(2100))
    if isAHCI {
      let number = UInt64(bench.random.below(2))
      let slot = UInt64(bench.random.below(32))
      let regions = (0..<bench.random.below(5)).map { _ in (bench.address(), bench.count()) }
      prepare(
        number, slot, code, lba: lba, count: bench.random.oneIn(6) ? .max : UInt16(bench.random.below(300)), regions)
      if bench.random.oneIn(2) { port(number, 0x34, 1 << slot) }
      port(number, 0x38, bench.random.oneIn(10) ? bench.random.next() & 0xffff_ffff : 1 << slot)
      if bench.random.oneIn(3) { port(number, 0x10, 0xffff_ffff) }
      if bench.random.oneIn(24) { port(number, bench.random.pick([0, 4, 8, 12, 0x18, 0x2c]), bench.address()) }
    } else {
      let channel = bench.random.below(2) * 2
      issue(channel, code, lba: lba, count: bench.random.byte())
      descriptors()
      let busMaster = UInt64(channel / 2 * 8)
      set(4, busMaster + 4, bench.random.oneIn(6) ? bench.address() : Self.table, size: 4)
      set(4, busMaster, UInt64(bench.random.below(16)), size: 1)
      for _ in 0..<(bench.random.oneIn(3) ? bench.random.below(600) : 6) {
        if bench.random.oneIn(2) {
          _ = device.read(region: channel, offset: 0, size: bench.random.pick([2, 4]))
        } else {
          set(channel, 0, UInt64(bench.random.pick(Self.packets)), size: 2)
        }
      }
    }
  }

  /// The bus master's list: where data go, and how many bytes.
  private func descriptors() {
    for index in 0..<4 as Range<UInt64> {
      bench.store(UInt32(truncatingIfNeeded: bench.address()), at: Self.table + 8 * index)
      let last: UInt32 = bench.random.oneIn(3) ? 1 << 31 : 0
      bench.store(UInt32(truncatingIfNeeded: bench.count()) & 0xffff | last, at: Self.table + 8 * index + 4)
    }
  }

  /// A command to an IDE channel's first drive.
  private func issue(_ region: Int, _ code: UInt8, lba: UInt64, count: UInt8) {
    set(region, 6, 0xe0 | lba >> 24 & 0xf, size: 1)
    set(region, 2, UInt64(count), size: 1)
    for index in 0..<3 as Range<UInt64> { set(region, 3 + index, lba >> (8 * index) & 0xff, size: 1) }
    set(region, 7, UInt64(code), size: 1)
  }

  /// Puts a command into a slot of a port.
  private func prepare(
    _ port: UInt64, _ slot: UInt64, _ code: UInt8, lba: UInt64, count: UInt16, _ regions: [(UInt64, UInt64)]
  ) {
    let header = Self.list + Self.spacing * port + 32 * slot
    let table = Self.table + Self.spacing * port + 0x100 * slot
    let wrong = bench.random.oneIn(16)
    bench.store(UInt32(wrong ? bench.random.below(32) : 5) | UInt32(regions.count) << 16, at: header)
    bench.store(wrong ? bench.address() : table, at: header + 8)
    for (index, byte) in [
      0x27, 0x80, UInt64(code), UInt64(count) & 0xff, lba, lba >> 8, lba >> 16, 0x40, lba >> 24, lba >> 32, lba >> 40,
      UInt64(count) >> 8, UInt64(count), UInt64(count) >> 8,
    ].enumerated() {
      bench.store(UInt8(truncatingIfNeeded: byte), at: table + UInt64(index))
    }
    for index in 0..<12 as Range<UInt64> { bench.store(UInt8(bench.random.below(4)), at: table + 0x40 + index) }
    bench.store(bench.random.pick(Self.packets), at: table + 0x40)
    for (index, region) in regions.enumerated() {
      bench.store(region.0, at: table + 0x80 + 16 * UInt64(index))
      bench.store(UInt32(truncatingIfNeeded: region.1 &- 1), at: table + 0x8c + 16 * UInt64(index))
    }
  }

  /// An honest driver reads a sector; false: it does not get it.
  func readsSector(_ sector: UInt64) -> Bool {
    _ = bench.memory.fill(.init(Self.data), count: 512, with: 0xcc)
    if isAHCI {
      let table = Self.table
      bench.store(UInt32(5) | 1 << 16, at: Self.list)
      bench.store(UInt32(0), at: Self.list + 4)
      bench.store(table, at: Self.list + 8)
      let frame: [UInt8] = [0x27, 0x80, 0x25, 0, UInt8(sector), 0, 0, 0x40, 0, 0, 0, 0, 1, 0, 0, 0]
      for (index, byte) in frame.enumerated() { bench.store(byte, at: table + UInt64(index)) }
      bench.store(Self.data, at: table + 0x80)
      bench.store(UInt32(511), at: table + 0x8c)
      port(0, 0x38, 1)
      bench.disk.completeAll()
    } else {
      issue(0, 0x20, lba: sector, count: 1)
      bench.disk.completeAll()
      for index in 0..<256 as Range<UInt64> {
        bench.store(UInt16(truncatingIfNeeded: device.read(region: 0, offset: 0, size: 2)), at: Self.data + 2 * index)
      }
    }
    return bench.holds(sector: Int(sector), at: Self.data)
  }
}
