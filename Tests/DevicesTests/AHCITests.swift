import TestSupport
import Testing

@testable import Devices

@Suite struct AHCITests {
  private let bench: AHCIBench

  init() throws { bench = try AHCIBench() }

  private func sectors(_ range: Range<Int>) -> [UInt8] {
    Array(bench.disk.contents[512 * range.lowerBound..<512 * range.upperBound])
  }

  // MARK: The controller

  @Test func registers() {
    func word(_ offset: UInt8) -> UInt32 {
      var value: UInt32 = 0
      for index: UInt8 in (0..<4).reversed() { value = value << 8 | UInt32(bench.ahci.pci.read(offset + index)) }
      return value
    }
    #expect(word(0) == 0x2922_8086 && word(8) == 0x0106_0102 && word(0x24) == 0 && word(0x3c) & 0xff00 == 0x100)
    #expect(bench.host(0) == 0xc134_1f05 && bench.host(0x0c) == 0x3f && bench.host(0x10) == 0x10301)
    #expect(bench.host(4) == 0x8000_0000)
    #expect(bench.port(0x28) == 0x133 && bench.port(0x28, port: 1) == 0x133 && bench.port(0x28, port: 2) == 0)
    #expect(bench.ahci.peek(0x0d, size: 1) == 0 && bench.ahci.peek(0x0c, size: 8) == 0x10301_0000_003f)
    #expect(bench.ahci.peek(0x128, size: 2) == 0x133 && bench.host(0x500) == 0)
  }

  /// Signatures come as soon as there is a place for them.
  @Test func signatures() {
    #expect(bench.port(0x20) == 0x7f && bench.port(0x24) == 0xffff_ffff)
    bench.start()
    bench.start(port: 1)
    #expect(bench.port(0x20) == 0x150 && bench.port(0x24) == 0x101)
    #expect(bench.port(0x20, port: 1) == 0x100 && bench.port(0x24, port: 1) == 0xeb14_0101)
    #expect(bench.frame(0x40)[..<6] == [0x34, 0, 0x50, 1, 1, 0])
    #expect(bench.port(0x10) == 0)
  }

  /// Linux, SeaBIOS: DET from 1 to 0, then wait for the link and the drive.
  @Test func linkReset() {
    bench.start()
    bench.set(0x18, 0x10)
    bench.set(0x2c, 0x301)
    #expect(bench.port(0x28) == 0 && bench.port(0x20) == 0x7f)
    bench.set(0x2c, 0x300)
    #expect(bench.port(0x28) == 0x133 && bench.port(0x20) == 0x150 && bench.port(0x30) == 1 << 26)
    #expect(bench.takeInterrupt() == 0x40)
    bench.set(0x30, 0xffff_ffff)
    #expect(bench.port(0x30) == 0)
  }

  /// Software reset, by two frames without a command.
  @Test func softwareReset() {
    bench.start(port: 1)
    bench.prepare(0, 0, port: 1)
    bench.store(UInt8(0), bench.table(0, port: 1) + 1)
    bench.store(UInt8(0x0c), bench.table(0, port: 1) + 15)
    bench.issue(port: 1)
    #expect(bench.port(0x38, port: 1) == 0)
    bench.store(UInt8(0x08), bench.table(0, port: 1) + 15)
    bench.store(UInt32(0), AHCIBench.received + AHCIBench.portSpacing + 0x40)
    bench.issue(port: 1)
    #expect(bench.port(0x38, port: 1) == 0 && bench.port(0x24, port: 1) == 0xeb14_0101)
    #expect(bench.frame(0x40, port: 1)[0] == 0x34)
  }

  // MARK: Commands

  @Test func identification() {
    bench.start()
    bench.prepare(0, 0xec, regions: [(0x30000, 512)])
    bench.issue()
    #expect(bench.port(0x38) == 0 && bench.movedCount() == 512 && bench.port(0x20) == 0x50)
    // Data that come by PIO end with the frame that announced them.
    #expect(bench.takeInterrupt() == 2)
    let frame = bench.frame(0x20)
    #expect(frame[0] == 0x5f && frame[1] == 0x60 && frame[2] == 0x58 && frame[15] == 0x50 && frame[16...17] == [0, 2])
    let data = bench.memory(0x30000, count: 512)
    #expect(data[0...1] == [0x40, 0] && data[150] == 31 && data[152...153] == [0x0e, 1] && data.reduce(0, &+) == 0)
  }

  @Test func readingAndWriting() {
    bench.start()
    bench.prepare(3, 0x25, lba: 100, count: 5, regions: [(0x30000, 1000), (0x31000, 1560)])
    bench.issue(1 << 3)
    #expect(bench.port(0x20) == 0x80 && bench.port(0x38) == 8 && bench.port(0x18) >> 8 & 0x1f == 3)
    bench.disk.completeAll()
    #expect(bench.port(0x20) == 0x50 && bench.port(0x38) == 0 && bench.movedCount(3) == 2560)
    #expect(bench.memory(0x30000, count: 1000) + bench.memory(0x31000, count: 1560) == sectors(100..<105))
    #expect(bench.frame(0x40)[..<4] == [0x34, 0x40, 0x50, 0] && bench.takeInterrupt() == 1)
    bench.prepare(0, 0x35, lba: 7, count: 2, regions: [(0x30000, 1024)])
    bench.issue()
    bench.disk.completeAll()
    #expect(sectors(7..<9) == sectors(100..<102))
    bench.prepare(0, 0xea)
    bench.issue()
    #expect(bench.disk.next?.operation == .flush)
    bench.disk.completeAll()
    #expect(bench.port(0x38) == 0)
  }

  /// Commands that are not queued take turns, lowest slot first.
  @Test func oneAtATime() {
    bench.start()
    for slot: UInt64 in [2, 5, 9] { bench.prepare(slot, 0x25, lba: slot, regions: [(0x30000, 512)]) }
    bench.issue(1 << 5 | 1 << 9)
    bench.issue(1 << 2)
    #expect(bench.disk.pendingCount == 1 && bench.disk.next?.offset == 5 * 512)
    bench.disk.complete()
    #expect(bench.port(0x38) == 1 << 2 | 1 << 9 && bench.disk.next?.offset == 2 * 512)
    bench.disk.completeAll()
    #expect(bench.port(0x38) == 0)
  }

  @Test func errors() {
    bench.start()
    bench.prepare(1, 0x25, lba: 5000, regions: [(0x30000, 512)])
    bench.prepare(2, 0x25, lba: 5, regions: [(0x30000, 512)])
    bench.issue(1 << 1 | 1 << 2)
    #expect(bench.port(0x20) == 0x1051 && bench.takeInterrupt() == 1 << 30 | 1)
    // The list stands still, and shows where.
    #expect(bench.port(0x38) == 6 && bench.port(0x18) >> 8 & 0x1f == 1 && bench.disk.requests.isEmpty)
    bench.set(0x18, 0x10)
    #expect(bench.port(0x38) == 0 && bench.port(0x18) & 0xc000 == 0x4000)
    bench.set(0x18, 0x11)
    bench.issue(1 << 2)
    bench.disk.completeAll()
    #expect(bench.port(0x20) == 0x50 && bench.takeInterrupt() == 1)
  }

  @Test func wildAddresses() {
    bench.start()
    for (list, table, data) in [(0xf000_0000, 0, 0), (0, 0xffff_ffff_0000, 0), (0, 0, 0xffff_ffff_ffff_fff0)]
      as [(UInt64, UInt64, UInt64)]
    {
      bench.prepare(0, 0x25, regions: [(data == 0 ? 0x30000 : data, 512)])
      if table != 0 { bench.store(table, AHCIBench.list + 8) }
      bench.set(0x00, UInt32(list == 0 ? AHCIBench.list : list))
      bench.issue()
      bench.disk.completeAll()
      #expect(bench.takeInterrupt() == 1 << 29)
      bench.set(0x18, 0x10)
      bench.set(0x18, 0x11)
    }
    // No room for the data that are to be written, and a place for frames that is none.
    bench.set(0x00, UInt32(AHCIBench.list))
    bench.prepare(0, 0x35, count: 2, regions: [(0x30000, 512)])
    bench.issue()
    #expect(bench.takeInterrupt() == 1 << 29 && bench.disk.pendingCount == 0)
    bench.set(0x18, 0x10)
    bench.set(0x0c, 0xffff)
    bench.set(0x18, 0x11)
    bench.prepare(0, 0xec, regions: [(0x30000, 512)])
    bench.issue()
    #expect(bench.takeInterrupt() & 1 << 29 != 0)
  }

  /// Less room than there is data: what fits is there.
  @Test func overflow() {
    bench.start()
    bench.prepare(0, 0x25, lba: 6, count: 3, regions: [(0x30000, 1100)])
    bench.issue()
    bench.disk.completeAll()
    #expect(bench.takeInterrupt() == 1 << 24 | 1 && bench.movedCount() == 1024)
    #expect(bench.memory(0x30000, count: 1024) == sectors(6..<8))
  }

  // MARK: Queued commands

  @Test func queuedCommands() {
    bench.start()
    bench.prepareQueued(0, 0x60, lba: 10, sectors: 2, at: 0x30000)
    bench.prepareQueued(4, 0x60, lba: 20, sectors: 1, at: 0x31000)
    bench.prepareQueued(31, 0x61, lba: 30, sectors: 1, at: 0x32000)
    bench.store(UInt64(0x1234_5678_9abc), 0x32000)
    bench.issue(1 << 0 | 1 << 4 | 1 << 31, queued: true)
    // All are taken at once, and the list is free.
    #expect(bench.port(0x38) == 0 && bench.port(0x34) == 0x8000_0011 && bench.disk.pendingCount == 3)
    #expect(bench.port(0x20) == 0x50 && bench.takeInterrupt() == 0)
    bench.disk.complete(1)
    #expect(bench.port(0x34) == 0x8000_0001 && bench.takeInterrupt() == 8)
    #expect(bench.frame(0x58)[..<8] == [0xa1, 0x40, 0x50, 0, 0x10, 0, 0, 0])
    #expect(bench.memory(0x31000, count: 512) == sectors(20..<21))
    bench.disk.completeAll()
    #expect(bench.port(0x34) == 0 && bench.memory(0x30000, count: 1024) == sectors(10..<12))
    #expect(sectors(30..<31)[..<6] == [0xbc, 0x9a, 0x78, 0x56, 0x34, 0x12])
  }

  /// The host hears of a failure when nothing else is under way; the log says which it was.
  @Test func queuedFailures() {
    bench.start()
    bench.disk.failure = { $0.offset == 20 * 512 ? .failed : nil }
    for slot: UInt64 in 0..<3 { bench.prepareQueued(slot, 0x60, lba: 10 * (slot + 1), sectors: 1, at: 0x30000) }
    bench.issue(7, queued: true)
    bench.disk.complete(1)
    #expect(bench.port(0x34) == 7 && bench.takeInterrupt() == 0)
    bench.disk.completeAll()
    #expect(bench.port(0x34) == 7 && bench.port(0x20) == 0x4051 && bench.takeInterrupt() == 1 << 30 | 8)
    bench.set(0x18, 0x10)
    #expect(bench.port(0x34) == 0)
    bench.set(0x18, 0x11)
    for expected: UInt8 in [1, 0x80] {
      bench.prepare(0, 0x2f, lba: 0x10, regions: [(0x33000, 512)])
      bench.issue()
      let log = bench.memory(0x33000, count: 512)
      #expect(log[0] == expected && log.reduce(0, &+) == 0)
      if expected == 1 { #expect(log[2...4] == [0x51, 0x40, 20]) }
    }
    // Out of range.
    bench.prepareQueued(5, 0x60, lba: 1 << 40, sectors: 1, at: 0x30000)
    bench.issue(1 << 5, queued: true)
    #expect(bench.port(0x20) == 0x1051 && bench.takeInterrupt() & 1 << 30 != 0)
  }

  @Test func forcedWrites() {
    bench.start()
    bench.prepareQueued(2, 0x61, lba: 1, sectors: 1, at: 0x30000)
    bench.store(UInt8(0xc0), bench.table(2) + 7)
    bench.issue(1 << 2, queued: true)
    bench.disk.complete()
    #expect(bench.port(0x34) == 4 && bench.disk.next?.operation == .flush)
    bench.disk.complete()
    #expect(bench.port(0x34) == 0)
  }

  /// Stopping the list leaves it running until the disk is through; results are dropped.
  @Test func stoppingWithRequestsInFlight() {
    bench.start()
    for slot: UInt64 in 0..<2 { bench.prepareQueued(slot, 0x60, lba: slot, sectors: 1, at: 0x30000) }
    bench.issue(3, queued: true)
    bench.set(0x18, 0x10)
    #expect(bench.port(0x18) & 0x8000 != 0 && bench.port(0x34) == 0)
    bench.set(0x18, 0x11)
    bench.prepareQueued(0, 0x60, lba: 9, sectors: 1, at: 0x31000)
    bench.issue(1, queued: true)
    #expect(bench.disk.requests.count == 2, "not before the others are through")
    bench.disk.complete()
    bench.disk.complete()
    #expect(bench.port(0x34) == 1 && bench.disk.requests.count == 3 && bench.takeInterrupt() == 0)
    bench.disk.completeAll()
    #expect(bench.port(0x34) == 0 && bench.takeInterrupt() == 8)
  }

  @Test func resetOfTheController() {
    bench.start()
    bench.prepare(0, 0x25, regions: [(0x30000, 512)])
    bench.issue()
    bench.ahci.poke(4, 1, size: 4)
    #expect(bench.host(4) == 0x8000_0000 && bench.port(0x38) == 0 && bench.port(0x14) == 0)
    #expect(bench.port(0x18) & 0x8000 != 0)
    bench.start()
    #expect(bench.port(0x20) == 0x7f)
    bench.disk.completeAll()
    #expect(bench.port(0x20) == 0x150 && bench.takeInterrupt() == 0)
  }

  // MARK: Interrupts

  @Test func pin() {
    bench.start()
    bench.prepare(0, 0xe5)
    bench.issue()
    #expect(bench.pin && bench.host(8) == 1)
    // The whole's status cannot be cleared before the port's.
    bench.ahci.poke(8, 1, size: 4)
    #expect(bench.pin && bench.host(8) == 1)
    bench.set(0x10, 1)
    #expect(bench.pin)
    bench.ahci.poke(8, 1, size: 4)
    #expect(!bench.pin && bench.host(8) == 0)
    bench.ahci.poke(4, 1 << 31, size: 4)
    bench.issue()
    #expect(!bench.pin && bench.host(8) == 1)
    bench.ahci.poke(4, 1 << 31 | 2, size: 4)
    #expect(bench.pin)
  }

  /// Each time that there is something more to tell there is a message, also while the handler is at work.
  @Test func messages() {
    bench.enableMessages()
    bench.start()
    bench.start(port: 1)
    bench.prepare(0, 0xe5)
    bench.prepare(0, 0xe5, port: 1)
    bench.issue()
    #expect(bench.takeMessages() == 1 && !bench.pin)
    bench.issue(port: 1)
    #expect(bench.takeMessages() == 1)
    bench.set(0x10, 1)
    // Another command ends between the two writes of the handler.
    bench.issue()
    #expect(bench.takeMessages() == 0)
    bench.ahci.poke(8, 1, size: 4)
    #expect(bench.takeMessages() == 1)
    _ = bench.takeInterrupt()
    #expect(bench.takeMessages() == 1, "port 1 still has something")
    _ = bench.takeInterrupt(port: 1)
    #expect(bench.takeMessages() == 0)
  }

  // MARK: Packets

  @Test func packets() {
    bench.start(port: 1)
    bench.prepare(0, 0xa0, features: 1, packet: [0], port: 1)
    bench.issue(port: 1)
    // Power-on is told first.
    #expect(bench.port(0x20, port: 1) == 0x6441 && bench.takeInterrupt(port: 1) == 1 << 30 | 1)
    bench.set(0x18, 0x10, port: 1)
    bench.set(0x18, 0x11, port: 1)
    bench.prepare(0, 0xa0, features: 1, regions: [(0x30000, 4096)], packet: [0x28, 0, 0, 0, 0, 4, 0, 0, 2], port: 1)
    bench.issue(port: 1)
    bench.disc.completeAll()
    #expect(bench.takeInterrupt(port: 1) == 1 && bench.movedCount(port: 1) == 4096)
    #expect(bench.memory(0x30000, count: 4096) == Array(bench.disc.contents[8192..<12288]))
    // By PIO there is a frame for the data before.
    bench.prepare(0, 0xa0, regions: [(0x30000, 36)], packet: [0x12, 0, 0, 0, 36], port: 1)
    bench.issue(port: 1)
    #expect(bench.takeInterrupt(port: 1) == 3 && bench.movedCount(port: 1) == 36)
    #expect(bench.memory(0x30008, count: 8) == Array("RINGSIDE".utf8))
  }

  // MARK: Snapshots

  @Test func snapshot() throws {
    bench.start()
    bench.prepare(0, 0x25, lba: 5000, regions: [(0x30000, 512)])
    bench.issue()
    let copy = try AHCIBench()
    copy.ahci.restore(try bench.ahci.storedState())
    #expect(copy.pin && copy.port(0x20) == 0x1051 && copy.port(0x38) == 1)
    #expect(copy.takeInterrupt() == 1 << 30 | 1 && !copy.pin)
    copy.set(0x18, 0x10)
    copy.set(0x18, 0x11)
    copy.prepare(0, 0x25, lba: 5, regions: [(0x30000, 512)])
    copy.issue()
    copy.disk.completeAll()
    #expect(copy.takeInterrupt() == 1)
    var state = copy.ahci.save()
    state.ports = []
    copy.ahci.restore(state)
    #expect(copy.port(0x28) == 0x133)
  }
}
