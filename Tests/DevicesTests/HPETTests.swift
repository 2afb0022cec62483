import Machine
import TestSupport
import Testing

@testable import Devices

@Suite struct HPETTests {
  private final class Bench {
    let platform: FakePlatform
    let pin: RecordedLine
    let zero: RecordedLine
    let eight: RecordedLine
    let lines: [LegacyTimerLine]
    let hpet: HPET

    init() throws {
      platform = try FakePlatform()
      pin = RecordedLine(clock: platform.clock)
      zero = RecordedLine(clock: platform.clock)
      eight = RecordedLine(clock: platform.clock)
      lines = [LegacyTimerLine(zero.line), LegacyTimerLine(eight.line)]
      hpet = platform.start(HPET(line: { [pin] in $0 == 21 ? pin.line : .unconnected }, legacy: lines))
    }

    func write(_ offset: UInt64, _ value: UInt64) { hpet.poke(offset, value, size: 8) }
    func read(_ offset: UInt64) -> UInt64 { hpet.peek(offset, size: 8) }
  }

  @Test func counter() throws {
    let bench = try Bench()
    #expect(bench.read(0) == 10_000_000 << 32 | 0x8086_a201)
    bench.platform.clock.advance(by: 1000)
    #expect(bench.read(0xf0) == 0)
    bench.write(0xf0, 5)
    bench.write(0x10, 1)
    bench.platform.clock.advance(by: 1000)
    #expect(bench.read(0xf0) == 105 && bench.hpet.peek(0xf4, size: 4) == 0)
    bench.write(0x10, 0)
    bench.platform.clock.advance(by: 1000)
    #expect(bench.read(0xf0) == 105)
  }

  @Test func onceByEdge() throws {
    let bench = try Bench()
    bench.write(0x100, 21 << 9 | 1 << 2)
    bench.write(0x108, 100)
    bench.write(0x10, 1)
    bench.platform.clock.advance(by: 999)
    #expect(bench.pin.rises.isEmpty)
    bench.platform.clock.advance(by: 10_000_000)
    #expect(bench.pin.rises == [1000] && !bench.pin.level && bench.read(0x20) == 0)
  }

  @Test func periodicByLevel() throws {
    let bench = try Bench()
    // Level, enabled, periodic; the first write sets the comparator, the second the period.
    bench.write(0x120, 21 << 9 | 1 << 1 | 1 << 2 | 1 << 3 | 1 << 6)
    bench.write(0x128, 10_000)
    bench.write(0x128, 20_000)
    bench.write(0x10, 1)
    bench.platform.clock.advance(by: 100_000)
    #expect(bench.pin.level && bench.read(0x20) == 2)
    bench.write(0x20, 2)
    #expect(!bench.pin.level && bench.read(0x20) == 0 && bench.read(0x128) == 30_000)
    bench.platform.clock.advance(by: 199_999)
    #expect(!bench.pin.level)
    bench.platform.clock.advance(by: 1)
    #expect(bench.pin.level)
  }

  /// With legacy routes the first two timers have interrupts 0 and 8 and the old chips have none.
  @Test func legacyRoutes() throws {
    let bench = try Bench()
    bench.lines[0].chip.set(true)
    #expect(bench.zero.level)
    bench.write(0x100, 1 << 2)
    bench.write(0x108, 50)
    bench.write(0x10, 3)
    #expect(!bench.zero.level)
    bench.zero.clear()
    bench.platform.clock.advance(by: 500)
    #expect(bench.zero.rises == [500] && bench.eight.rises.isEmpty)
    bench.write(0x10, 1)
    #expect(bench.zero.level)
  }

  @Test func snapshots() throws {
    let (bench, copy) = (try Bench(), try Bench())
    bench.write(0x120, 21 << 9 | 1 << 1 | 1 << 2)
    bench.write(0x128, 100)
    bench.write(0x10, 1)
    bench.platform.clock.advance(by: 2000)
    copy.platform.clock.advance(by: 2000)
    try transfer(from: bench.hpet, to: copy.hpet)
    #expect(copy.pin.level && copy.read(0xf0) == bench.read(0xf0) && copy.hpet.save() == bench.hpet.save())
  }

  @Test(arguments: 1...3 as ClosedRange<UInt64>) func randomAccesses(seed: UInt64) throws {
    let bench = try Bench()
    bench.hpet.withstand(30_000, seed: seed, offsets: 0x180) { random in
      if Int.random(in: 0..<8, using: &random) == 0 {
        bench.platform.clock.advance(by: UInt64.random(in: 0..<1 << 16, using: &random))
      }
    }
  }
}
