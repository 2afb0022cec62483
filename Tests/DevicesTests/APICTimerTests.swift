import TestSupport
import Testing

@testable import Devices

/// SDM vol. 3A, 11.5.4. The timer's clock has one tick a nanosecond; the fake time-stamp counter two.
@Suite struct APICTimerTests {
  private let bench: APICBench
  private var clock: FakeClock { bench.clock }

  init() throws {
    bench = try APICBench()
    bench.write(0x3e0, 0b1011)
  }

  @Test func oneShot() {
    bench.write(0x320, 0xee)
    bench.write(0x380, 1000)
    #expect(bench.read(0x390) == 1000)
    clock.advance(by: 400)
    #expect(bench.read(0x390) == 600)
    clock.advance(by: 599)
    #expect(bench.read(0x390) == 1 && bench.fabric.pendingVector(cpu: 0) == nil)
    _ = bench.target.takeEvents()
    clock.advance(by: 1)
    #expect(bench.target.takeEvents() == [.interruptsChanged(cpu: 0)])
    #expect(bench.read(0x390) == 0 && bench.read(0x380) == 1000)
    #expect(bench.drain() == [0xee])
    clock.advance(by: 1_000_000)
    #expect(bench.drain() == [])
  }

  @Test(arguments: [
    (0b0000 as UInt32, 2 as UInt64), (0b0001, 4), (0b0010, 8), (0b0011, 16), (0b1000, 32), (0b1001, 64), (0b1010, 128),
    (0b1011, 1),
  ]) func divider(code: UInt32, divisor: UInt64) {
    bench.write(0x3e0, code)
    bench.write(0x320, 0x40)
    bench.write(0x380, 10)
    clock.advance(by: 10 * divisor - 1)
    #expect(bench.read(0x390) == 1 && bench.drain() == [])
    clock.advance(by: 1)
    #expect(bench.drain() == [0x40])
  }

  @Test func periodicKeepsItsPhase() {
    bench.write(0x320, 0x200ee)
    bench.write(0x380, 50_000)
    for _ in 0..<5 {
      clock.advance(by: 49_999)
      #expect(bench.drain() == [])
      clock.advance(by: 1)
      #expect(bench.drain() == [0xee] && bench.read(0x390) == 50_000)
    }
    // The host was busy for three periods and a bit: one interrupt, and the phase stays.
    clock.stall(for: 160_000)
    clock.advance(by: 0)
    #expect(bench.drain() == [0xee])
    #expect(bench.read(0x390) == 40_000)
    clock.advance(by: 40_000)
    #expect(bench.drain() == [0xee])
    bench.write(0x380, 0)
    #expect(clock.nextDeadline == nil)
  }

  @Test func aShortPeriodDoesNotFloodTheHost() {
    bench.write(0x320, 0x200ee)
    bench.write(0x380, 1)
    let start = clock.now
    var interrupts = 0
    while clock.now < start + 1_000_000, let next = clock.nextDeadline {
      clock.advance(to: next)
      interrupts += bench.drain().count
    }
    #expect(90...101 ~= interrupts)
  }

  @Test func aMaskedTimerCountsWithoutInterrupting() {
    bench.write(0x320, 0x300ee)
    bench.write(0x380, 50_000)
    #expect(clock.nextDeadline == nil, "nobody can see a masked periodic timer expire")
    clock.advance(by: 120_000)
    #expect(bench.read(0x390) == 30_000 && bench.drain() == [])
    bench.write(0x320, 0x200ee)
    clock.advance(by: 30_000)
    #expect(bench.drain() == [0xee])
    bench.write(0x320, 0x100ee)
    bench.write(0x380, 10)
    clock.advance(by: 10)
    bench.write(0x320, 0xee)
    #expect(bench.drain() == [], "an expiry while masked is not made up for")
  }

  @Test func modeChangesLetTheTimerCountOn() {
    bench.write(0x320, 0xee)
    bench.write(0x380, 100_000)
    clock.advance(by: 60_000)
    bench.write(0x320, 0x200ee)
    #expect(bench.read(0x390) == 40_000)
    clock.advance(by: 40_000)
    #expect(bench.read(0x390) == 100_000 && bench.drain() == [0xee])
    clock.advance(by: 70_000)
    bench.write(0x320, 0xee)
    #expect(bench.read(0x390) == 30_000)
    clock.advance(by: 30_000)
    #expect(bench.read(0x390) == 0 && bench.drain() == [0xee])
    bench.write(0x320, 0x200ee)
    clock.advance(by: 200_000)
    #expect(bench.read(0x390) == 0 && bench.drain() == [], "a count of zero stays")
  }

  @Test func changingTheDividerKeepsTheCount() {
    bench.write(0x320, 0xee)
    bench.write(0x380, 1000)
    clock.advance(by: 400)
    bench.write(0x3e0, 0b0001)
    #expect(bench.read(0x390) == 600)
    clock.advance(by: 4 * 600 - 1)
    #expect(bench.read(0x390) == 1)
    clock.advance(by: 1)
    #expect(bench.drain() == [0xee])
  }

  @Test func anExpiryThatTheHostMissedIsNotLost() {
    bench.write(0x320, 0xee)
    bench.write(0x380, 1000)
    clock.stall(for: 5000)
    bench.write(0x380, 1000)
    #expect(bench.drain() == [0xee])
    #expect(clock.nextDeadline == 6000)
  }

  @Test func deadline() {
    bench.writeMSR(0x6e0, 5000)
    #expect(bench.readMSR(0x6e0) == 0, "ignored outside TSC-deadline mode")
    bench.write(0x320, 0x400ef)
    #expect(bench.writeMSR(0x6e0, 5001))
    #expect(bench.readMSR(0x6e0) == 5001)
    bench.write(0x380, 10)
    #expect(bench.read(0x380) == 0 && bench.read(0x390) == 0)
    clock.advance(by: 2500)
    #expect(bench.drain() == [])
    clock.advance(by: 1)
    #expect(bench.drain() == [0xef])
    #expect(bench.readMSR(0x6e0) == 0)
    // A deadline that has passed interrupts at once; zero disarms.
    bench.writeMSR(0x6e0, clock.timeStamp)
    #expect(bench.drain() == [0xef])
    bench.writeMSR(0x6e0, clock.timeStamp + 100)
    bench.writeMSR(0x6e0, 0)
    clock.advance(by: 1000)
    #expect(bench.drain() == [] && clock.nextDeadline == nil)
  }

  @Test func deadlineFollowsTheProcessorsOwnTimeStampCounter() {
    bench.write(0x320, 0x400ef)
    bench.fabric.setTimeStampOffset(10_000, cpu: 0)
    bench.writeMSR(0x6e0, 12_000)
    #expect(clock.nextDeadline == 1000)
    bench.fabric.setTimeStampOffset(11_000, cpu: 0)
    #expect(clock.nextDeadline == 500)
    bench.fabric.setTimeStampOffset(0 &- 4000, cpu: 0)
    #expect(bench.drain() == [0xef], "the counter now reads a huge number")
    bench.fabric.setTimeStampOffset(0, cpu: 0)
    bench.writeMSR(0x6e0, .max)
    #expect(bench.readMSR(0x6e0) == .max)
  }

  @Test func leavingDeadlineModeDisarms() {
    bench.write(0x320, 0x400ef)
    bench.writeMSR(0x6e0, 5000)
    bench.write(0x320, 0xef)
    bench.write(0x320, 0x400ef)
    #expect(bench.readMSR(0x6e0) == 0)
    bench.write(0x320, 0xef)
    bench.write(0x380, 5000)
    bench.write(0x320, 0x400ef)
    clock.advance(by: 10_000)
    #expect(bench.drain() == [])
  }
}
