import TestSupport
import Testing

@testable import Devices

@Suite struct IDEBusMasterTests {
  private let bench: IDEBench

  init() throws { bench = try IDEBench() }

  /// Linux, SeaBIOS and others: table, command, start, wait for the interrupt, stop.
  @Test func reading() {
    bench.regions([(0x8000, 512), (0x9002, 1022), (0xa000, 514)])
    bench.ide.poke(2, 0x06, region: 4)
    bench.command(0xc8, lba: 40, count: 4)
    #expect(bench.alternateStatus() == 0x58 && bench.disk.pendingCount == 0)
    bench.startBusMaster(toMemory: true)
    #expect(bench.busMasterStatus() == 1 && bench.disk.pendingCount == 1)
    bench.disk.completeAll()
    #expect(bench.busMasterStatus() == 4 && bench.alternateStatus() == 0x50 && bench.lines[0].level)
    let expected = Array(bench.disk.contents[40 * 512..<44 * 512])
    #expect(bench.memory(0x8000, count: 512) == Array(expected[..<512]))
    #expect(bench.memory(0x9002, count: 1022) == Array(expected[512..<1534]))
    #expect(bench.memory(0xa000, count: 514) == Array(expected[1534...]))
    bench.ide.poke(0, 0, region: 4)
    bench.ide.poke(2, 0x04, region: 4)
    #expect(bench.busMasterStatus() == 0 && bench.takeInterrupt())
  }

  /// Some start the bus master before they give the command.
  @Test func writingWithTheBusMasterStartedFirst() {
    let data = (0..<1024).map { UInt8(truncatingIfNeeded: $0 ^ $0 >> 5) }
    bench.fill(0x8000, data)
    bench.regions([(0x8000, 1024)])
    bench.startBusMaster(toMemory: false)
    bench.command48(0x35, lba: 7, count: 2)
    bench.disk.completeAll()
    #expect(bench.busMasterStatus() == 4 && bench.takeInterrupt())
    #expect(Array(bench.disk.contents[7 * 512..<9 * 512]) == data)
  }

  /// A size of zero means 64 KiB, and bit 0 means nothing.
  @Test func sizeOfZero() {
    bench.regions([(0x20001, 0), (0x40000, 0)])
    bench.command(0xc8, count: 0)
    bench.startBusMaster(toMemory: true)
    bench.disk.completeAll()
    #expect(bench.busMasterStatus() == 4)
    #expect(
      bench.memory(0x20000, count: 65536) + bench.memory(0x40000, count: 65536) == Array(bench.disk.contents[..<131072])
    )
  }

  /// More than is needed leaves the bus master active; less leaves the drive waiting, without an interrupt.
  @Test func tablesOfTheWrongLength() {
    bench.regions([(0x8000, 4096)])
    bench.command(0xc8)
    bench.startBusMaster(toMemory: true)
    bench.disk.completeAll()
    #expect(bench.busMasterStatus() == 5 && bench.takeInterrupt())
    bench.ide.poke(0, 0, region: 4)
    bench.ide.poke(2, 4, region: 4)
    bench.regions([(0x8000, 512)])
    bench.command(0xc8, count: 2)
    bench.startBusMaster(toMemory: true)
    #expect(bench.busMasterStatus() == 0 && !bench.lines[0].level && bench.alternateStatus() == 0x58)
    bench.control(0x0c)
    bench.control(0x08)
    #expect(bench.alternateStatus() == 0x50)
  }

  @Test func wildAddresses() {
    bench.regions([(0xf000_0000, 512)])
    bench.command(0xc8)
    bench.startBusMaster(toMemory: true)
    bench.disk.completeAll()
    #expect(bench.busMasterStatus() == 6 && bench.takeInterrupt() && bench.alternateStatus() == 0x51)
    bench.ide.poke(0, 0, region: 4)
    // The table itself.
    bench.ide.poke(4, 0xffff_fffc, size: 4, region: 4)
    bench.command(0xc8)
    bench.startBusMaster(toMemory: true)
    #expect(bench.busMasterStatus() & 3 == 2)
  }

  /// A table without an end goes round in its 64 KiB.
  @Test func endlessTable() {
    let entries = [(UInt64, UInt64)](repeating: (0x8000, 2), count: 8192)
    bench.regions(entries, at: 0x10000)
    bench.fill(0x1ffff, [0])
    bench.command(0xc8, count: 64)
    bench.startBusMaster(toMemory: true)
    #expect(bench.busMasterStatus() == 0 && bench.disk.requests.isEmpty)
  }

  @Test func needsBusMastering() {
    bench.ide.pci.write(4, 1)
    bench.regions([(0x8000, 512)])
    bench.command(0xc8)
    bench.startBusMaster(toMemory: true)
    #expect(bench.disk.requests.isEmpty && bench.busMasterStatus() == 1)
    bench.ide.pci.write(4, 5)
    bench.disk.completeAll()
    #expect(bench.busMasterStatus() == 4)
  }

  @Test func resetWithATransferInFlight() {
    bench.regions([(0x8000, 512)])
    bench.command(0xc8)
    bench.startBusMaster(toMemory: true)
    bench.ide.poke(0, 0, region: 4)
    #expect(bench.busMasterStatus() == 0)
    bench.control(0x0c)
    bench.control(0x08)
    #expect(bench.alternateStatus() == 0x80)
    bench.disk.completeAll()
    #expect(bench.alternateStatus() == 0x50 && bench.busMasterStatus() == 0 && !bench.lines[0].level)
  }

  @Test func trimming() {
    // Sectors 16 to 23 and 100; an entry without a count.
    var ranges = [UInt8](repeating: 0, count: 512)
    (ranges[0], ranges[6]) = (16, 8)
    ranges[8] = 50
    (ranges[16], ranges[22]) = (100, 1)
    bench.fill(0x8000, ranges)
    bench.regions([(0x8000, 512)])
    bench.command48(0x06, lba: 0, count: 1, features: 1)
    bench.startBusMaster(toMemory: false)
    #expect(bench.disk.requests.map(\.operation) == [.discard, .discard])
    #expect(bench.disk.requests.map(\.offset) == [8192, 51200] && bench.disk.requests.map(\.count) == [4096, 512])
    bench.disk.complete(1)
    #expect(bench.alternateStatus() == 0x80)
    bench.disk.complete()
    #expect(bench.takeInterrupt() && bench.alternateStatus() == 0x50)
    bench.ide.poke(0, 0, region: 4)
    // Beyond the end.
    ranges[7] = 0xff
    bench.fill(0x8000, ranges)
    bench.command48(0x06, lba: 0, count: 1, features: 1)
    bench.startBusMaster(toMemory: false)
    #expect(bench.takeInterrupt() && bench.alternateStatus() == 0x51 && bench.read(1) == 0x10)
  }

  @Test func snapshotWhileTheDriveWaits() throws {
    bench.regions([(0x8000, 512)])
    bench.command(0xc8, lba: 9)
    let copy = try IDEBench()
    copy.ide.restore(try bench.ide.storedState())
    copy.regions([(0x8000, 512)])
    copy.startBusMaster(toMemory: true)
    copy.disk.completeAll()
    #expect(copy.busMasterStatus() == 4 && copy.memory(0x8000, count: 2) == [9, 0])
  }
}
