import TestSupport
import Testing

@testable import Devices

/// The whole device: ports, latches, interrupts and port 0x61.
@Suite struct PITTests {
  private let platform: FakePlatform
  private let line: RecordedLine
  private let pit: PIT
  private var clock: FakeClock { platform.clock }

  init() throws {
    platform = try FakePlatform()
    line = RecordedLine(clock: platform.clock)
    pit = platform.start(PIT(line: line.line))
  }

  private func write(_ offset: UInt64, _ value: UInt64) { pit.write(region: 0, offset: offset, size: 1, value: value) }
  private func read(_ offset: UInt64) -> UInt64 { pit.read(region: 0, offset: offset, size: 1) }
  private func writeSystem(_ value: UInt64) { pit.write(region: 1, offset: 0, size: 1, value: value) }
  private func readSystem() -> UInt64 { pit.read(region: 1, offset: 0, size: 1) }

  /// Moves time to the middle of a tick.
  private func advance(toTick tick: UInt64) {
    clock.advance(to: scaleUp(2 * tick + 1, by: 1_000_000_000, over: 2 * PIT.frequency))
  }

  /// The moment at which a tick begins.
  private func time(ofTick tick: UInt64) -> UInt64 { scaleUp(tick, by: 1_000_000_000, over: PIT.frequency) }

  @Test func periodicInterrupts() {
    advance(toTick: 99)
    write(3, 0x34)
    write(0, 0xa9)
    write(0, 0x04)
    line.clear()
    clock.advance(by: 10_000_000)
    #expect(line.rises == (1...10).map { time(ofTick: 100 + 1193 * $0) })
    #expect(line.level)
    // The host is busy for three periods.
    line.clear()
    clock.stall(for: 3_000_000)
    clock.advance(by: 0)
    #expect(line.rises.count == 1)
    clock.advance(by: 1_000_000)
    #expect(line.rises.count == 2)
  }

  @Test func oneShotInterrupts() {
    write(3, 0x38)
    write(0, 100)
    write(0, 0)
    line.clear()
    clock.advance(by: 1_000_000)
    #expect(line.rises == [time(ofTick: 102)])
    #expect(clock.nextDeadline == nil)
    write(3, 0x30)
    #expect(!line.level)
    write(0, 50)
    #expect(clock.nextDeadline == nil)
    write(0, 0)
    clock.advance(by: 100_000)
    #expect(line.level)
  }

  @Test func squareWaveInterrupts() {
    write(3, 0x36)
    write(0, 0)
    write(0, 0)
    line.clear()
    clock.advance(by: 1_000_000_000)
    #expect(line.rises == (1...18).map { time(ofTick: 1 + 65_536 * $0) })
  }

  @Test func aShortPeriodDoesNotFloodTheHost() {
    write(3, 0x14)
    write(0, 2)
    line.clear()
    clock.advance(by: 1_000_000)
    #expect(90...101 ~= line.rises.count)
  }

  @Test func latches() {
    write(3, 0x34)
    write(0, 0x00)
    write(0, 0x10)
    advance(toTick: 0x101)
    write(3, 0x00)
    advance(toTick: 0x201)
    write(3, 0x00)
    #expect(read(0) == 0x00 && read(0) == 0x0f, "the first latch holds until it is read")
    #expect(read(0) == 0x00 && read(0) == 0x0e)
    // Read-back: status and count of counter 0, status of counter 1.
    write(3, 0x54)
    write(3, 0xc2)
    write(3, 0xec)
    advance(toTick: 0x301)
    #expect(read(0) == 0xb4)
    #expect(read(0) == 0x00 && read(0) == 0x0e)
    #expect(read(0) == 0x00 && read(0) == 0x0d)
    #expect(read(1) == 0xd4, "no count yet")
    #expect(read(3) == 0xff)
  }

  @Test func accessModes() {
    write(3, 0x64)
    write(1, 0x12)
    advance(toTick: 1)
    #expect(read(1) == 0x12 && read(1) == 0x12)
    write(3, 0x40)
    #expect(read(1) == 0x12)
    write(3, 0x54)
    write(1, 0x20)
    advance(toTick: 0x11)
    #expect(read(1) == 0x11)
    write(3, 0x40)
    advance(toTick: 0x12)
    #expect(read(1) == 0x11 && read(1) == 0x10)
  }

  /// How an operating system measures its processor: gate of counter 2, mode 0, and bit 5 of port 0x61.
  @Test func calibrationWithCounter2() {
    writeSystem(0x00)
    write(3, 0xb0)
    write(2, 0xff)
    write(2, 0x2f)
    advance(toTick: 50_000)
    #expect(readSystem() & 0x20 == 0)
    writeSystem(0x0d)
    let start: UInt64 = 50_000
    #expect(readSystem() & 0x0f == 0x0d)
    advance(toTick: start + 0x2ffe)
    #expect(readSystem() & 0x20 == 0)
    advance(toTick: start + 0x2fff)
    #expect(readSystem() & 0x20 != 0)
    #expect(line.rises.isEmpty)
  }

  @Test func refreshToggles() {
    var changes = 0
    var last = readSystem() & 0x10
    for _ in 0..<10_000 {
      clock.advance(by: 1000)
      let now = readSystem() & 0x10
      if now != last { changes += 1 }
      last = now
    }
    #expect(660...664 ~= changes)
    writeSystem(0xff)
    #expect(readSystem() & 0xcf == 0x0f)
  }

  @Test(arguments: 1...12 as ClosedRange<UInt64>) func snapshots(seed: UInt64) throws {
    var random = SeededRandom(seed: seed)
    for _ in 0..<200 { _ = perturb(pit, clock, &random) }
    let copyPlatform = try FakePlatform(clock: FakeClock(now: clock.now))
    let copyLine = RecordedLine(clock: copyPlatform.clock)
    let copy = copyPlatform.start(PIT(line: copyLine.line))
    try transfer(from: pit, to: copy)
    #expect(copyLine.level == line.level)
    line.clear()
    copyLine.clear()
    var sameRandom = random
    for step in 0..<400 {
      #expect(perturb(pit, clock, &random) == perturb(copy, copyPlatform.clock, &sameRandom), "step \(step)")
    }
    let isSame = line.changes == copyLine.changes
    #expect(isSame)
  }

  private func perturb(_ pit: PIT, _ clock: FakeClock, _ random: inout SeededRandom) -> UInt64 {
    let value = random.next()
    let offset = (value >> 8) % 4
    switch (value >> 16) % 8 {
    case 0, 1: return pit.read(region: 0, offset: offset, size: 1)
    case 2, 3, 4: pit.write(region: 0, offset: offset, size: 1, value: value & 0xff)
    case 5: pit.write(region: 1, offset: 0, size: 1, value: value & 0xff)
    default: clock.advance(by: (value >> 24) % 20_000_000)
    }
    return pit.read(region: 1, offset: 0, size: 1)
  }
}
