import Machine
import TestSupport
import Testing

@testable import Devices

@Suite struct WatchdogTimerTests {
  private let platform: FakePlatform
  private let line: RecordedLine
  private let device: WatchdogTimer
  /// Nanoseconds of a tick of 2^15 cycles.
  private static let tick: UInt64 = 30 << 15

  init() throws {
    platform = try FakePlatform()
    line = RecordedLine(clock: platform.clock)
    device = platform.start(WatchdogTimer(interrupt: line.line))
  }

  private func unlock() {
    device.poke(0xc, 0x80)
    device.poke(0xc, 0x86)
  }

  private func preload(_ first: UInt64, _ second: UInt64) {
    unlock()
    device.poke(0, first, size: 4)
    unlock()
    device.poke(4, second, size: 4)
  }

  private func reload() {
    unlock()
    device.poke(0xc, 0x100, size: 2)
  }

  private func setLock(_ value: UInt8) { device.pci.write(0x68, value) }

  @Test func bothStagesPassBeforeTheMachineIsReset() {
    preload(100, 200)
    #expect(device.peek(0, size: 4) == 100 && device.peek(4, size: 4) == 200)
    #expect(platform.clock.nextDeadline == nil)
    setLock(2)
    platform.clock.advance(by: 100 * Self.tick - 1)
    #expect(!line.level && device.peek(8) == 0)
    platform.clock.advance(by: 1)
    #expect(line.level && device.peek(8) == 1)
    device.poke(8, 1, size: 4)
    #expect(!line.level)
    platform.clock.advance(by: 200 * Self.tick - 1)
    #expect(platform.requests.isEmpty)
    platform.clock.advance(by: 1)
    #expect(platform.requests == [.failure(.watchdog)])
    #expect(device.peek(0xc, size: 2) == 0x200 && platform.clock.nextDeadline == nil)
    // The flag survives the reset, all else does not.
    device.reset()
    #expect(device.peek(0xc, size: 2) == 0x200 && device.peek(0, size: 4) == 0xf_ffff && device.pci.read(0x68) == 0)
    unlock()
    device.poke(0xc, 0x200, size: 2)
    #expect(device.peek(0xc, size: 2) == 0)
  }

  @Test func aGuestThatIsWellReloadsInTime() {
    preload(100, 100)
    setLock(2)
    for _ in 0..<10 {
      platform.clock.advance(by: 150 * Self.tick)
      reload()
    }
    #expect(platform.requests.isEmpty)
    setLock(0)
    #expect(platform.clock.nextDeadline == nil)
  }

  /// Nothing counts without the two values, in their order, and they count once.
  @Test func registersAreLocked() {
    device.poke(0, 5, size: 4)
    device.poke(0xc, 0x86)
    device.poke(0, 5, size: 4)
    device.poke(0xc, 0x80)
    device.poke(0, 5, size: 4)
    #expect(device.peek(0, size: 4) == 0xf_ffff)
    unlock()
    device.poke(0, 5, size: 4)
    device.poke(0, 6, size: 4)
    #expect(device.peek(0, size: 4) == 5)
    preload(1000, 1000)
    setLock(2)
    platform.clock.advance(by: 999 * Self.tick)
    device.poke(0xc, 0x100, size: 2)
    platform.clock.advance(by: Self.tick)
    #expect(device.peek(8) == 1)
  }

  @Test func theLockHoldsUntilReset() {
    preload(10, 10)
    setLock(3)
    setLock(0)
    #expect(device.pci.read(0x68) == 3)
    platform.clock.advance(by: 20 * Self.tick)
    #expect(platform.requests == [.failure(.watchdog)])
    device.reset()
    setLock(0)
    #expect(device.pci.read(0x68) == 0)
  }

  @Test func configurationChoosesInterruptClockAndOutput() {
    preload(0x8000, 0x8000)
    device.pci.write(0x60, 0x27)
    #expect(device.pci.read(0x60) == 0x27)
    setLock(2)
    // 2^15 ticks of 2^5 cycles, twice.
    platform.clock.advance(by: 2 * 0x8000 * 30 << 5)
    #expect(!line.level && device.peek(8) == 1 && device.peek(0xc, size: 2) == 0x200)
    #expect(platform.requests.isEmpty)
  }

  /// One stage, again and again; the output turns over, and only its fall resets.
  @Test func freeRunning() {
    preload(1, 10)
    setLock(6)
    for count in 1...4 {
      platform.clock.advance(by: 10 * Self.tick)
      #expect(platform.requests.count == (count + 1) / 2 && device.peek(8) == 0)
    }
    // However short the guest makes the stages, the host is not kept busy.
    preload(0, 0)
    reload()
    platform.clock.advance(by: 1_000_000)
    #expect(platform.requests.count <= 10)
  }

  @Test func stateSurvives() throws {
    preload(100, 200)
    setLock(2)
    platform.clock.advance(by: 150 * Self.tick)
    let copy = platform.start(WatchdogTimer(interrupt: line.line))
    try transfer(from: device, to: copy)
    #expect(copy.save() == device.save())
    setLock(0)
    #expect(line.level)
    platform.clock.advance(by: 149 * Self.tick)
    #expect(platform.requests.isEmpty)
    platform.clock.advance(by: Self.tick)
    #expect(platform.requests == [.failure(.watchdog)] && copy.peek(0xc, size: 2) == 0x200)
  }

  @Test func randomAccesses() {
    device.withstand(100_000, seed: 7, offsets: 20) { random in
      device.pci.write(UInt8.random(in: 0x5e...0x6a, using: &random), UInt8.random(in: 0...255, using: &random))
      if Int.random(in: 0..<8, using: &random) == 0 { unlock() }
      platform.clock.advance(by: UInt64.random(in: 0..<1000, using: &random))
    }
  }
}
