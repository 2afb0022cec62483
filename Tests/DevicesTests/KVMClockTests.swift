import Machine
import Memory
import TestSupport
import Testing
import X86

@testable import Devices

@Suite struct KVMClockTests {
  private static let wallClock: UInt32 = 0x4b56_4d00
  private static let systemTime: UInt32 = 0x4b56_4d01

  /// A page as a guest reads it.
  private struct Page {
    var version: UInt32
    var stamp: UInt64
    var time: UInt64
    var multiplier: UInt32
    var shift: Int8
    var flags: UInt8

    init(_ memory: GuestMemory, _ address: UInt64) {
      func load<T: BitwiseCopyable>(_ offset: UInt64) -> T {
        memory.load(GuestPhysicalAddress(address + offset), as: T.self)!
      }
      version = load(0)
      stamp = load(8)
      time = load(16)
      multiplier = load(24)
      shift = load(28)
      flags = load(29)
    }

    /// What the clock shows at a time stamp.
    func read(at timeStamp: UInt64) -> UInt64 {
      let ticks = timeStamp &- stamp
      let shifted = shift < 0 ? ticks >> UInt64(-shift) : ticks << UInt64(shift)
      return time + UInt64(Double(shifted) * Double(multiplier) / 4_294_967_296)
    }
  }

  private func page(_ platform: FakePlatform, _ address: UInt64) -> Page { Page(platform.memory, address) }

  private static let frequencies: [UInt64] = [
    1, 999_999_999, 1_000_000_000, 2_000_000_000, 2_000_000_001, 2_445_432_101, 5_000_000_000,
  ]

  @Test(arguments: Self.frequencies)
  func pageTellsTheTime(frequency: UInt64) throws {
    let platform = try FakePlatform(clock: FakeClock(now: 5_000_000_000, timeStampFrequency: frequency))
    let clock = platform.start(KVMClock(cpuCount: 1))
    #expect(clock.writeMSR(Self.systemTime, value: 0x1001, cpu: 0))
    for step in [0, 1_000_000, 10_000_000_000, 86_400_000_000_000] as [UInt64] {
      platform.clock.advance(by: step)
      let shown = page(platform, 0x1000).read(at: platform.clock.timeStamp)
      // A tick, and a part in 2^32.
      let difference = Int64(shown) - Int64(platform.clock.now)
      #expect(abs(difference) <= Int64(1_000_000_000 / frequency) + 30_000, "\(frequency): \(difference)")
    }
    #expect(page(platform, 0x1000).flags == 1 && page(platform, 0x1000).version & 1 == 0)
  }

  @Test func registersReadBackUnderBothNumbers() throws {
    let platform = try FakePlatform()
    let clock = platform.start(KVMClock(cpuCount: 2))
    #expect(clock.writeMSR(0x12, value: 0x2001, cpu: 1) && clock.readMSR(Self.systemTime, cpu: 1) == 0x2001)
    #expect(clock.readMSR(0x12, cpu: 0) == 0)
    #expect(clock.writeMSR(0x11, value: 0x3000, cpu: 0) && clock.readMSR(Self.wallClock, cpu: 1) == 0x3000)
    #expect(clock.readMSR(0x13, cpu: 0) == nil && !clock.writeMSR(0x4b56_4d02, value: 1, cpu: 0))
    // A page that is off is left alone, and so is a place that is not RAM.
    #expect(clock.writeMSR(Self.systemTime, value: 0x4000, cpu: 0))
    #expect(page(platform, 0x4000).multiplier == 0)
    for address: UInt64 in [.max, 1 << 20, (1 << 20) - 16, 0xfee0_0001] {
      #expect(clock.writeMSR(Self.systemTime, value: address | 1, cpu: 0))
      #expect(clock.writeMSR(Self.wallClock, value: address, cpu: 0))
    }
    clock.initialize(cpu: 1)
    #expect(clock.readMSR(Self.systemTime, cpu: 1) == 0)
  }

  @Test func wallClockIsThatOfTimeZero() throws {
    let platform = try FakePlatform(inputs: FakeInput(time: 1_700_000_000_250_000_000))
    let clock = platform.start(KVMClock(cpuCount: 1))
    platform.clock.advance(by: 100_500_000_000)
    #expect(clock.writeMSR(Self.wallClock, value: 0x1000, cpu: 0))
    let words = [0, 4, 8].map { platform.memory.load(GuestPhysicalAddress(0x1000 + $0), as: UInt32.self) }
    #expect(words == [2, 1_699_999_899, 750_000_000])
  }

  /// Whatever a guest makes of its processors' counters, they all show the same time.
  @Test func movedCountersShowTheSameTime() throws {
    let platform = try FakePlatform()
    let clock = platform.start(KVMClock(cpuCount: 2))
    platform.clock.advance(by: 1_000_000_000)
    for cpu in 0..<2 { #expect(clock.writeMSR(Self.systemTime, value: 0x1001 + UInt64(cpu) * 0x40, cpu: cpu)) }
    let version = page(platform, 0x1040).version
    clock.setTimeStampOffset(0 &- 1_900_000_000, cpu: 1)
    platform.clock.advance(by: 1_000_000_000)
    let stamp = platform.clock.timeStamp
    #expect(page(platform, 0x1040).version == version + 2)
    #expect(page(platform, 0x1000).read(at: stamp) == page(platform, 0x1040).read(at: stamp &- 1_900_000_000))
  }

  @Test func pauseIsFlaggedUntilTheGuestHasSeenIt() throws {
    let platform = try FakePlatform()
    let clock = platform.start(KVMClock(cpuCount: 2))
    #expect(clock.writeMSR(Self.systemTime, value: 0x1001, cpu: 0))
    clock.resume()
    #expect(page(platform, 0x1000).flags == 3 && page(platform, 0).multiplier == 0)
    clock.setTimeStampOffset(1, cpu: 0)
    #expect(page(platform, 0x1000).flags == 3)
    #expect(platform.memory.store(1 as UInt8, at: GuestPhysicalAddress(0x101d)))
    clock.setTimeStampOffset(2, cpu: 0)
    #expect(page(platform, 0x1000).flags == 1)
  }

  @Test func snapshotGoesOnFromItsTime() throws {
    let platform = try FakePlatform()
    let clock = platform.start(KVMClock(cpuCount: 1))
    #expect(clock.writeMSR(Self.systemTime, value: 0x1001, cpu: 0))
    platform.clock.advance(by: 7_000_000_000)
    let other = try FakePlatform(clock: FakeClock(now: 100))
    let copy = other.start(KVMClock(cpuCount: 1))
    try transfer(from: clock, to: copy)
    copy.resume()
    #expect(copy.readMSR(Self.systemTime, cpu: 0) == 0x1001)
    #expect(page(other, 0x1000).read(at: other.clock.timeStamp) == 7_000_000_000)
    copy.reset()
    #expect(copy.readMSR(Self.systemTime, cpu: 0) == 0)
    // The state of a machine of another size is not taken.
    try transfer(from: other.start(KVMClock(cpuCount: 2)), to: clock)
    #expect(clock.readMSR(Self.systemTime, cpu: 0) == 0x1001)
  }
}
