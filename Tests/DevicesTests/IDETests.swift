import TestSupport
import Testing

@testable import Devices

@Suite struct IDETests {
  private let bench: IDEBench

  init() throws { bench = try IDEBench() }

  private func sector(_ number: Int) -> [UInt8] { Array(bench.disk.contents[512 * number..<512 * (number + 1)]) }

  // MARK: Finding drives

  /// What Linux does (drivers/ata/libata-sff.c): look for registers that keep a value, reset, look for signatures.
  @Test func probingAsLinuxDoes() {
    for device: UInt8 in [0xa0, 0xb0] {
      bench.write(6, device)
      bench.write(2, 0x55)
      bench.write(3, 0xaa)
      bench.write(2, 0xaa)
      bench.write(3, 0x55)
      bench.write(2, 0x55)
      bench.write(3, 0xaa)
      #expect(bench.read(2) == 0x55 && bench.read(3) == 0xaa)
    }
    bench.control(0x08)
    bench.control(0x0c)
    #expect(bench.alternateStatus() == 0x80)
    bench.control(0x08)
    bench.write(6, 0xa0)
    #expect((1...5).map { bench.read($0) } == [1, 1, 1, 0, 0] && bench.read(7) == 0x50)
    // There is no drive 1: its status is zero.
    bench.write(6, 0xb0)
    #expect(bench.read(7) == 0 && bench.alternateStatus() == 0)
    bench.control(0x0c, channel: 1)
    bench.control(0x08, channel: 1)
    #expect((1...5).map { bench.read($0, channel: 1) } == [1, 1, 1, 0x14, 0xeb])
    #expect(bench.read(7, channel: 1) == 0)
  }

  @Test func emptyChannelReadsZeros() throws {
    let platform = try FakePlatform()
    let ide = platform.start(IDEController(drives: [], interrupts: [.unconnected, .unconnected]))
    for offset: UInt64 in 0..<8 {
      ide.poke(offset, 0xa5)
      #expect(ide.peek(offset) == 0)
    }
    #expect(ide.peek(0, region: 1) == 0)
  }

  /// The function as lspci shows it, and the switch by which its ports answer.
  @Test func configurationSpace() {
    func word(_ offset: UInt8) -> UInt32 {
      var value: UInt32 = 0
      for index: UInt8 in (0..<4).reversed() { value = value << 8 | UInt32(bench.ide.pci.read(offset + index)) }
      return value
    }
    #expect(word(0) == 0x7010_8086 && word(8) == 0x0101_8000 && word(0x20) == 1 && word(0x3c) == 0)
    #expect(word(0x40) == 0x8000_8000)
    bench.ide.pci.write(0x41, 0)
    #expect(bench.read(7) == 0xff && bench.read(7, channel: 1) == 0)
    bench.ide.pci.write(0x41, 0x80)
    #expect(bench.read(7) == 0x50)
  }

  @Test func identification() {
    bench.command(0xec)
    #expect(bench.alternateStatus() == 0x58 && bench.lines[0].level)
    #expect(bench.takeInterrupt() && !bench.lines[0].level)
    let words = bench.words(256)
    #expect(bench.alternateStatus() == 0x50 && !bench.lines[0].level)
    #expect(words[0] == 0x40 && words[1] == 4 && words[3] == 16 && words[6] == 63)
    #expect(UInt64(words[60]) == IDEBench.sectors && UInt64(words[100]) == IDEBench.sectors)
    #expect(words[10] == 0x534e && words[11] == 0x3120 && words[27] == 0x5249)
    #expect(words[83] & 0xc000 == 0x4000 && words[83] & 0x0400 != 0)
    let bytes = words.flatMap { [UInt8($0 & 0xff), UInt8($0 >> 8)] }
    #expect(bytes[510] == 0xa5 && bytes.reduce(0, &+) == 0)
    // A packet device is none that it identifies like this.
    bench.command(0xec, channel: 1)
    #expect(bench.read(7, channel: 1) == 0x51 && bench.read(1, channel: 1) == 4)
    #expect(bench.read(4, channel: 1) == 0x14 && bench.read(5, channel: 1) == 0xeb)
    bench.command(0xa1, channel: 1)
    #expect(bench.words(256, channel: 1)[0] == 0x85c0)
  }

  // MARK: PIO

  @Test func reading() {
    bench.command(0x20, lba: 10, count: 3)
    #expect(bench.alternateStatus() == 0x80 && !bench.lines[0].level)
    // One request for all of them.
    #expect(bench.disk.pendingCount == 1 && bench.disk.next?.offset == 5120 && bench.disk.next?.count == 1536)
    // Nobody listens while it is busy.
    bench.write(2, 7)
    bench.write(7, 0xec)
    bench.disk.completeAll()
    for number in 10..<13 {
      #expect(bench.alternateStatus() == 0x58 && bench.takeInterrupt())
      #expect(bench.bytes(512) == sector(number))
    }
    #expect(bench.alternateStatus() == 0x50 && !bench.lines[0].level)
    #expect(bench.words(2) == [0, 0])
  }

  /// 32-bit accesses, and single bytes, which take a whole word with them.
  @Test func dataRegisterWidths() {
    bench.command(0x20, lba: 0x123)
    bench.disk.completeAll()
    #expect(bench.ide.peek(0, size: 4) == 0x123)
    for _ in 0..<126 { _ = bench.ide.peek(0, size: 4) }
    #expect(bench.alternateStatus() == 0x58)
    _ = bench.ide.peek(0, size: 1)
    _ = bench.ide.peek(0, size: 1)
    #expect(bench.alternateStatus() == 0x50)
  }

  @Test func writing() {
    let data = (0..<1024).map { UInt8(truncatingIfNeeded: $0 &* 7 &+ $0 >> 8) }
    bench.command(0x30, lba: 5, count: 2)
    // The first block is asked for without an interrupt.
    #expect(bench.alternateStatus() == 0x58 && !bench.lines[0].level)
    bench.send(Array(data[..<512]))
    #expect(bench.alternateStatus() == 0x58 && bench.takeInterrupt())
    bench.send(Array(data[512...]))
    #expect(bench.alternateStatus() == 0x80 && !bench.lines[0].level)
    bench.disk.completeAll()
    #expect(bench.alternateStatus() == 0x50 && bench.takeInterrupt())
    #expect(Array(bench.disk.contents[2560..<3584]) == data)
    #expect(bench.disk.requests.count == 1)
  }

  /// 256 sectors, which are written as zero, go in parts.
  @Test func longTransfers() {
    bench.command(0x20, lba: 100, count: 0)
    var bytes: [UInt8] = []
    for _ in 0..<256 {
      bench.disk.completeAll()
      #expect(bench.takeInterrupt())
      bytes += bench.bytes(512)
    }
    #expect(bytes == Array(bench.disk.contents[51200..<51200 + 131072]) && bench.alternateStatus() == 0x50)
    #expect(bench.disk.requests.map(\.count) == [65536, 65536])
    bench.command(0x30, lba: 1, count: 0)
    for _ in 0..<256 {
      bench.send(bytes.prefix(512).map { $0 })
      bytes.removeFirst(512)
      bench.disk.completeAll()
      #expect(bench.takeInterrupt())
    }
    #expect(bench.alternateStatus() == 0x50 && bench.disk.contents[512] == 100)
  }

  @Test func multipleSectors() {
    bench.command(0xec)
    #expect(bench.words(256)[59] == 0x0110)
    bench.command(0xc6, count: 0)
    #expect(bench.read(7) == 0x50)
    bench.command(0xc4, lba: 0, count: 8)
    #expect(bench.read(7) == 0x51 && bench.read(1) == 4)
    bench.command(0xc6, count: 3)
    #expect(bench.read(7) == 0x51)
    bench.command(0xc6, count: 4)
    #expect(bench.read(7) == 0x50)
    bench.command(0xc4, lba: 1, count: 6)
    bench.disk.completeAll()
    #expect(bench.takeInterrupt())
    #expect(bench.bytes(2048) == (1...4).flatMap { sector($0) })
    #expect(bench.takeInterrupt())
    #expect(bench.bytes(1024) == (5...6).flatMap { sector($0) })
    #expect(bench.alternateStatus() == 0x50 && !bench.lines[0].level)
  }

  // MARK: Addresses

  @Test func extendedAddresses() {
    bench.command48(0x24, lba: 4095)
    bench.disk.completeAll()
    #expect(bench.takeInterrupt() && bench.bytes(512) == sector(4095))
    bench.command48(0x24, lba: 1 << 32)
    #expect(bench.read(7) == 0x51 && bench.read(1) == 0x10)
    bench.control(0x80)
    #expect(bench.read(3) == 0 && bench.read(2) == 0)
    bench.command48(0x27, lba: 0)
    #expect(bench.read(7) == 0x50 && bench.read(3) == 0xff && bench.read(4) == 0x0f)
  }

  @Test func cylindersAndHeads() {
    // Cylinder 2, head 3, sector 4 of 16 heads and 63 sectors.
    func address(cylinder: UInt8, head: UInt8, sector: UInt8) {
      bench.write(6, 0xa0 | head)
      bench.write(2, 1)
      bench.write(3, sector)
      bench.write(4, cylinder)
      bench.write(5, 0)
      bench.write(7, 0x20)
      bench.disk.completeAll()
    }
    address(cylinder: 2, head: 3, sector: 4)
    #expect(bench.takeInterrupt() && bench.bytes(512) == sector((2 * 16 + 3) * 63 + 3))
    address(cylinder: 0, head: 0, sector: 0)
    #expect(bench.read(7) == 0x51 && bench.read(1) == 0x10)
    address(cylinder: 0, head: 0, sector: 64)
    #expect(bench.read(7) == 0x51 && bench.read(1) == 0x10)
    // Another geometry: 4 heads, 32 sectors.
    bench.write(6, 0xa3)
    bench.write(2, 32)
    bench.write(7, 0x91)
    #expect(bench.read(7) == 0x50)
    address(cylinder: 2, head: 3, sector: 4)
    #expect(bench.takeInterrupt() && bench.bytes(512) == sector((2 * 4 + 3) * 32 + 3))
    address(cylinder: 2, head: 4, sector: 4)
    #expect(bench.read(7) == 0x51)
    bench.command(0xec)
    #expect(bench.words(256)[54...56] == [32, 4, 32])
  }

  @Test func beyondTheEnd() {
    for (code, lba, count) in [(0x20, 4096, 1), (0x30, 4090, 7), (0xc8, 0xfff_ffff, 0), (0x40, 4095, 2)]
      as [(UInt8, UInt64, UInt8)]
    {
      bench.command(code, lba: lba, count: count)
      #expect(bench.takeInterrupt() && bench.alternateStatus() == 0x51 && bench.read(1) == 0x10)
    }
    #expect(bench.disk.requests.isEmpty)
  }

  // MARK: Interrupts and resets

  @Test func disabledInterrupts() {
    bench.control(0x0a)
    bench.command(0xec)
    #expect(bench.alternateStatus() == 0x58 && !bench.lines[0].level)
    // It is only held back.
    bench.control(0x08)
    #expect(bench.lines[0].level)
    #expect(bench.alternateStatus() == 0x58 && bench.lines[0].level)
    _ = bench.read(7)
    #expect(!bench.lines[0].level)
  }

  /// The wire is the selected drive's.
  @Test func interruptFollowsSelection() throws {
    let memory = bench.platform.memory
    let other = FakeBlockBackend(size: 512 * 64, memory: memory)
    let bench = try IDEBench(second: .disk(other, serial: "SN3", cable: .parallel))
    bench.command(0x20)
    bench.write(6, 0xf0)
    bench.disk.completeAll()
    #expect(!bench.lines[0].level && bench.alternateStatus() == 0x50)
    bench.write(6, 0xe0)
    #expect(bench.lines[0].level && bench.takeInterrupt())
  }

  @Test func softwareReset() {
    bench.command(0x30, count: 2)
    bench.send([UInt8](repeating: 1, count: 512))
    #expect(bench.lines[0].level)
    bench.control(0x0c)
    #expect(!bench.lines[0].level && bench.alternateStatus() == 0x80)
    bench.control(0x08)
    #expect(bench.alternateStatus() == 0x50 && bench.read(1) == 1 && bench.read(2) == 1 && bench.read(3) == 1)
    bench.send([UInt8](repeating: 1, count: 512))
    #expect(bench.disk.requests.isEmpty)
  }

  /// The drive stays busy until what it was at is over; nobody gets the result.
  @Test func resetWithARequestInFlight() {
    bench.command(0x20, lba: 3, count: 200)
    bench.control(0x0c)
    bench.control(0x08)
    #expect(bench.alternateStatus() == 0x80)
    bench.disk.completeAll()
    #expect(bench.alternateStatus() == 0x50 && !bench.lines[0].level && bench.read(2) == 1)
    #expect(bench.disk.requests.count == 1)
    bench.command(0x20, lba: 3)
    bench.disk.completeAll()
    #expect(bench.takeInterrupt() && bench.bytes(512) == sector(3))
  }

  @Test func powerOnForgetsRequests() {
    bench.command(0x20, lba: 3)
    bench.ide.reset()
    #expect(bench.alternateStatus() == 0x50)
    bench.command(0x20, lba: 4)
    bench.disk.complete()
    #expect(bench.alternateStatus() == 0x80, "that was the old one")
    bench.disk.complete()
    #expect(bench.alternateStatus() == 0x58 && bench.bytes(512) == sector(4))
  }

  @Test func diagnostics() {
    bench.write(6, 0xb0)
    bench.write(7, 0x90)
    #expect(bench.read(6) == 0xa0 && bench.takeInterrupt() && bench.read(1) == 1)
  }

  // MARK: What a drive is told and asked

  @Test func features() {
    func word(_ index: Int) -> UInt16 {
      bench.command(0xec)
      return bench.words(256)[index]
    }
    #expect(word(85) & 0x61 == 0x61 && word(88) == 0x203f && word(63) == 0x0007)
    bench.command(0xef, count: 0x22, features: 3)
    #expect(bench.read(7) == 0x50 && word(63) == 0x0407 && word(88) == 0x003f)
    bench.command(0xef, count: 0x47, features: 3)
    #expect(bench.read(7) == 0x51 && bench.read(1) == 4)
    // Without a write cache each write is followed by a flush.
    bench.command(0xef, features: 0x82)
    bench.disk.completeAll()
    #expect(bench.read(7) == 0x50 && word(85) & 0x20 == 0)
    bench.command(0x30, lba: 1)
    bench.send([UInt8](repeating: 9, count: 512))
    bench.disk.completeAll()
    #expect(bench.disk.requests.map(\.operation) == [.flush, .write, .flush] && bench.read(7) == 0x50)
    bench.command(0xef, features: 0xfe)
    #expect(bench.read(7) == 0x51)
  }

  @Test func flushing() {
    bench.command(0xe7)
    #expect(bench.alternateStatus() == 0x80)
    bench.disk.completeAll()
    #expect(bench.takeInterrupt() && bench.alternateStatus() == 0x50)
    bench.disk.failure = { _ in .noSpace }
    bench.command(0xea)
    bench.disk.completeAll()
    #expect(bench.takeInterrupt() && bench.alternateStatus() == 0x71)
  }

  @Test func powerModes() {
    bench.command(0xe5)
    #expect(bench.read(2) == 0xff)
    bench.command(0xe0)
    bench.disk.completeAll()
    bench.command(0x98)
    #expect(bench.read(7) == 0x50 && bench.read(2) == 0)
    bench.command(0x20)
    bench.disk.completeAll()
    _ = bench.words(256)
    bench.command(0xe5)
    #expect(bench.read(2) == 0xff)
  }

  @Test func monitoring() {
    bench.command(0xb0, lba: 0xc24f00, features: 0xda)
    #expect(bench.read(7) == 0x50 && bench.read(4) == 0x4f && bench.read(5) == 0xc2)
    bench.command(0xb0, lba: 0xc24f00, features: 0xd0)
    let data = bench.bytes(512)
    #expect(data[0] == 0x10 && data.reduce(0, &+) == 0)
    bench.command(0xb0, lba: 0, features: 0xda)
    #expect(bench.read(7) == 0x51)
    bench.command(0xb0, lba: 0xc24f00, features: 0xd9)
    bench.command(0xb0, lba: 0xc24f00, features: 0xd0)
    #expect(bench.read(7) == 0x51 && bench.read(1) == 4)
  }

  @Test func unknownCommands() {
    for code: UInt8 in [0x00, 0x08, 0x60, 0xa0, 0xa1, 0xb1, 0xf1, 0xff] {
      bench.command(code)
      #expect(bench.takeInterrupt() && bench.read(7) == 0x51 && bench.read(1) == 4, "\(code)")
    }
  }

  @Test func failures() {
    bench.disk.failure = { $0.operation == .read ? .failed : .readOnly }
    bench.command(0x20, lba: 77)
    bench.disk.completeAll()
    #expect(bench.takeInterrupt() && bench.alternateStatus() == 0x51 && bench.read(1) == 0x40 && bench.read(3) == 77)
    bench.command(0x30, lba: 77)
    bench.send([UInt8](repeating: 9, count: 512))
    bench.disk.completeAll()
    #expect(bench.takeInterrupt() && bench.alternateStatus() == 0x51 && bench.read(1) == 4)
    bench.disk.failure = { _ in .failed }
    bench.command(0x30, lba: 77)
    bench.send([UInt8](repeating: 9, count: 512))
    bench.disk.completeAll()
    #expect(bench.takeInterrupt() && bench.alternateStatus() == 0x71)
  }

  // MARK: Snapshots

  @Test func snapshotInTheMiddleOfATransfer() throws {
    bench.command(0x20, lba: 20, count: 2)
    bench.disk.completeAll()
    let first = bench.bytes(100)
    let copy = try IDEBench()
    copy.ide.restore(try bench.ide.storedState())
    #expect(copy.lines[0].level && copy.alternateStatus() == 0x58)
    #expect(first + copy.bytes(412) == sector(20))
    #expect(copy.takeInterrupt() && copy.bytes(512) == sector(21) && copy.alternateStatus() == 0x50)
  }

  @Test func damagedSnapshots() throws {
    bench.command(0x20, lba: 20, count: 2)
    bench.disk.completeAll()
    var state = bench.ide.save()
    state.channels[0].units[0].state.position = 100_000
    bench.ide.restore(state)
    #expect(bench.alternateStatus() == 0x50)
    state.channels[0].units[0].buffer = []
    state.channels[0].units[0].drive = nil
    state.channels[0].state.selected = -7
    bench.ide.restore(state)
    _ = bench.words(10)
    state.channels = []
    bench.ide.restore(state)
  }
}
