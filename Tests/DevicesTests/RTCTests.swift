import TestSupport
import Testing

@testable import Devices

@Suite struct RTCTests {
  private let platform: FakePlatform
  private let line: RecordedLine
  private let rtc: RTC
  private var clock: FakeClock { platform.clock }
  /// 2024-02-28 23:59:57 UTC, a Wednesday.
  private static let start: UInt64 = 1_709_164_797

  init() throws {
    platform = try FakePlatform(clock: FakeClock(now: 500), inputs: FakeInput(time: Self.start * 1_000_000_000))
    line = RecordedLine(clock: platform.clock)
    rtc = platform.start(RTC(line: line.line))
  }

  private func read(_ index: UInt8) -> UInt8 {
    rtc.write(region: 0, offset: 0, size: 1, value: UInt64(index))
    return UInt8(truncatingIfNeeded: rtc.read(region: 0, offset: 1, size: 1))
  }

  private func write(_ index: UInt8, _ value: UInt8) {
    rtc.write(region: 0, offset: 0, size: 1, value: UInt64(index))
    rtc.write(region: 0, offset: 1, size: 1, value: UInt64(value))
  }

  /// Century, year, month, day, hour, minute, second, as they read.
  private var date: [UInt8] { [0x32, 9, 8, 7, 4, 2, 0].map(read) }

  private func setTime(hour: UInt8, minute: UInt8, second: UInt8) {
    write(4, hour)
    write(2, minute)
    write(0, second)
  }

  private func advance(seconds: UInt64) { clock.advance(by: seconds * 1_000_000_000) }

  @Test func timeOfDay() {
    #expect(date == [0x20, 0x24, 0x02, 0x28, 0x23, 0x59, 0x57])
    #expect(read(6) == 4)
    advance(seconds: 3)
    #expect(date == [0x20, 0x24, 0x02, 0x29, 0x00, 0x00, 0x00])
    #expect(read(6) == 5)
    advance(seconds: 86_400)
    #expect(date == [0x20, 0x24, 0x03, 0x01, 0x00, 0x00, 0x00])
    #expect(platform.inputs.wallClockReads == 1)
    #expect(read(0xd) == 0x80 && read(0xa) == 0x26 && read(0xb) == 0x02)
    #expect(rtc.read(region: 0, offset: 0, size: 1) == 0xff)
  }

  @Test func aFractionOfASecondCounts() throws {
    platform.inputs.time = Self.start * 1_000_000_000 + 999_000_000
    let other = platform.start(RTC(line: .unconnected))
    clock.advance(by: 999_999)
    #expect(other.read(region: 0, offset: 1, size: 1) == 0x57)
    clock.advance(by: 1)
    #expect(other.read(region: 0, offset: 1, size: 1) == 0x58)
  }

  @Test(arguments: [
    ([0x19, 0x99, 0x12, 0x31] as [UInt8], [0x20, 0x00, 0x01, 0x01] as [UInt8]),
    ([0x20, 0x00, 0x02, 0x28], [0x20, 0x00, 0x02, 0x29]),
    ([0x21, 0x00, 0x02, 0x28], [0x21, 0x00, 0x03, 0x01]), ([0x20, 0x23, 0x02, 0x28], [0x20, 0x23, 0x03, 0x01]),
    ([0x20, 0x23, 0x04, 0x30], [0x20, 0x23, 0x05, 0x01]), ([0x99, 0x99, 0x12, 0x31], [0x00, 0x00, 0x01, 0x01]),
  ]) func calendar(before: [UInt8], after: [UInt8]) {
    for (index, value) in zip([0x32, 9, 8, 7] as [UInt8], before) { write(index, value) }
    setTime(hour: 0x23, minute: 0x59, second: 0x59)
    write(6, 7)
    advance(seconds: 1)
    #expect(date == after + [0, 0, 0] && read(6) == 1)
  }

  /// Every day of eight centuries follows from the one before.
  @Test func longTime() {
    var time = CalendarTime(secondsSince1970: 0)
    #expect(time.weekday == 5)
    var jumped = time
    for day in 1...292_194 {
      time.advance(seconds: 86_400)
      if day % 1000 == 0 {
        jumped.advance(seconds: 86_400_000)
        #expect(time == jumped)
        #expect(time == CalendarTime(secondsSince1970: UInt64(day) * 86_400))
      }
    }
    #expect(time.year == 2770 && time.month == 1 && time.day == 1)
  }

  @Test func formats() {
    write(0xb, 0x06)
    setTime(hour: 23, minute: 59, second: 58)
    advance(seconds: 1)
    #expect([4, 2, 0].map(read) == [23, 59, 59])
    write(0xb, 0x04)
    setTime(hour: 0x8b, minute: 59, second: 59)
    advance(seconds: 1)
    #expect([4, 2, 0].map(read) == [12, 0, 0])
    write(0xb, 0x00)
    for (hour, next) in [(0x12, 0x01), (0x11, 0x92), (0x92, 0x81), (0x91, 0x12), (0x09, 0x10)] as [(UInt8, UInt8)] {
      setTime(hour: hour, minute: 0x59, second: 0x59)
      advance(seconds: 1)
      #expect(read(4) == next, "after \(hour)")
    }
  }

  @Test func setStopsUpdates() {
    write(0xb, 0x92)
    #expect(read(0xb) == 0x82, "SET clears the update interrupt")
    advance(seconds: 10)
    setTime(hour: 0x12, minute: 0x30, second: 0x00)
    advance(seconds: 10)
    #expect([4, 2, 0].map(read) == [0x12, 0x30, 0x00])
    #expect(read(0xc) & 0x10 == 0)
    write(0xb, 0x02)
    advance(seconds: 10)
    #expect([4, 2, 0].map(read) == [0x12, 0x30, 0x10])
  }

  @Test func theFirstUpdateAfterADividerResetIsHalfASecondAway() {
    clock.advance(by: 700_000_000)
    write(0xa, 0x76)
    advance(seconds: 5)
    #expect(read(0) == 0x57)
    write(0xa, 0x26)
    clock.advance(by: 499_999_999)
    #expect(read(0) == 0x57)
    clock.advance(by: 1)
    #expect(read(0) == 0x58)
  }

  @Test func updateInProgress() {
    clock.advance(by: 997_771_999)
    #expect(read(0xa) == 0x26)
    clock.advance(by: 1)
    #expect(read(0xa) == 0xa6)
    clock.advance(by: 2_227_999)
    #expect(read(0xa) == 0xa6 && read(0) == 0x57)
    clock.advance(by: 1)
    #expect(read(0xa) == 0x26 && read(0) == 0x58)
    write(0xb, 0x82)
    clock.advance(by: 999_000_000)
    #expect(read(0xa) == 0x26)
  }

  @Test func updateInterrupts() {
    write(0xa, 0x20)
    write(1, 0x99)
    write(0xb, 0x12)
    advance(seconds: 3)
    #expect(line.rises == [1_000_000_500] && line.level, "a level until C is read")
    #expect(read(0xc) == 0x90)
    #expect(!line.level && read(0xc) == 0)
    advance(seconds: 1)
    #expect(line.level)
    // A flag that is set interrupts when it is enabled.
    write(0xb, 0x02)
    #expect(!line.level && read(0xc) == 0x10)
    advance(seconds: 1)
    #expect(!line.level)
    write(0xb, 0x12)
    #expect(line.level && read(0xc) == 0x90)
    #expect(clock.nextDeadline == 6_000_000_500)
  }

  @Test(arguments: [
    (1 as UInt8, 3_906_250 as UInt64), (2, 7_812_500), (3, 122_071), (6, 976_563), (13, 125_000_000), (15, 500_000_000),
  ]) func periodicInterrupts(rate: UInt8, period: UInt64) {
    write(0xa, 0x20 | rate)
    write(1, 0x99)
    write(0xb, 0x42)
    for count: UInt64 in 1...4 {
      let exact: UInt64 = rate < 3 ? 128 << UInt64(rate - 1) : 1 << UInt64(rate - 1)
      let due = 500 + scaleUp(count * exact, by: 1_000_000_000, over: 32_768)
      #expect(clock.nextDeadline == due)
      if count == 1 { #expect(due == 500 + period) }
      clock.advance(to: due)
      #expect(line.level && read(0xc) & 0xc0 == 0xc0 && !line.level)
    }
    write(0xa, 0x20)
    #expect(clock.nextDeadline == nil)
    clock.advance(by: 2_000_000_000)
    #expect(read(0xc) == 0x10)
  }

  @Test(arguments: [
    (0x00 as UInt8, 0x00 as UInt8, 0x00 as UInt8, 3 as UInt64), (0x23, 0x59, 0x59, 2), (0x23, 0x59, 0x57, 86_400),
    (0x12, 0x34, 0x56, 45_299), (0xff, 0xff, 0xff, 1), (0xff, 0xc0, 0x30, 33), (0xff, 0x05, 0xff, 303),
    (0x05, 0xff, 0xff, 18_003), (0x23, 0xff, 0x00, 82_803),
  ]) func alarms(hour: UInt8, minute: UInt8, second: UInt8, wait: UInt64) {
    write(0xa, 0x20)
    write(5, hour)
    write(3, minute)
    write(1, second)
    write(0xb, 0x22)
    #expect(clock.nextDeadline == 500 + wait * 1_000_000_000)
    advance(seconds: wait - 1)
    #expect(!line.level)
    advance(seconds: 1)
    #expect(line.level && read(0xc) == 0xb0 && !line.level)
    // The flag comes without the interrupt, too.
    write(0xb, 0x02)
    advance(seconds: 86_400)
    #expect(read(0xc) == 0x30 && !line.level)
  }

  @Test(arguments: [(0x24 as UInt8, 0 as UInt8), (0, 0x60), (0, 0x1a)])
  func alarmsThatCannotMatch(hour: UInt8, minute: UInt8) {
    write(0xa, 0x20)
    write(5, hour)
    write(3, minute)
    write(1, 0)
    write(0xb, 0x22)
    #expect(clock.nextDeadline == nil)
    advance(seconds: 200_000)
    #expect(read(0xc) == 0x10)
  }

  @Test func memory() {
    for index: UInt8 in 0x0e..<0x80 {
      write(index, index ^ 0x5a)
      #expect(read(index | 0x80) == index ^ 0x5a)
    }
    #expect(rtc.masksNonMaskableInterrupts)
    _ = read(0x7f)
    #expect(!rtc.masksNonMaskableInterrupts)
    write(0xd, 0)
    write(0xc, 0xff)
    #expect(read(0xd) == 0x80 && read(0xc) == 0)
  }

  @Test(arguments: [
    (1 << 20 as UInt64, 0 as UInt64, [0x280, 0, 0, 0, 0] as [UInt64]),
    (512 << 20, 0, [0x280, 0xffff, 0xffff, 0x1f00, 0]), (16 << 20, 0, [0x280, 0x3c00, 0x3c00, 0, 0]),
    (3 << 30, 5 << 30, [0x280, 0xffff, 0xffff, 0xbf00, 0x14000]), (0, 1 << 50, [0, 0, 0, 0, 0xff_ffff]),
  ]) func memorySize(low: UInt64, high: UInt64, expected: [UInt64]) {
    rtc.setMemorySize(below4GiB: low, above4GiB: high)
    func number(_ index: UInt8, _ count: UInt8) -> UInt64 {
      (0..<count).reduce(0) { $0 | UInt64(read(index + $1)) << UInt64(8 * $1) }
    }
    #expect([number(0x15, 2), number(0x17, 2), number(0x30, 2), number(0x34, 2), number(0x5b, 3)] == expected)
    let sum = (0x10...0x2d as ClosedRange<UInt8>).reduce(UInt16(0)) { $0 + UInt16(read($1)) }
    #expect([read(0x2e), read(0x2f)] == [UInt8(sum >> 8), UInt8(sum & 0xff)])
  }

  @Test func resetKeepsTimeAndMemory() {
    write(0x0f, 0x0a)
    setTime(hour: 0x11, minute: 0x22, second: 0x33)
    write(0xb, 0x7a)
    advance(seconds: 1)
    #expect(line.level)
    rtc.reset()
    #expect(!line.level && read(0xc) == 0 && read(0xb) == 0x02 && read(0x0f) == 0x0a)
    #expect([4, 2, 0].map(read) == [0x11, 0x22, 0x34])
    #expect(platform.inputs.wallClockReads == 1)
  }

  @Test(arguments: 1...12 as ClosedRange<UInt64>) func snapshots(seed: UInt64) throws {
    var random = SeededRandom(seed: seed)
    for _ in 0..<200 { _ = perturb(rtc, clock, &random) }
    let copyPlatform = try FakePlatform(clock: FakeClock(now: clock.now), inputs: FakeInput(time: 5))
    let copyLine = RecordedLine(clock: copyPlatform.clock)
    let copy = copyPlatform.start(RTC(line: copyLine.line))
    try transfer(from: rtc, to: copy)
    #expect(copyLine.level == line.level)
    line.clear()
    copyLine.clear()
    var sameRandom = random
    for step in 0..<400 {
      #expect(perturb(rtc, clock, &random) == perturb(copy, copyPlatform.clock, &sameRandom), "step \(step)")
    }
    #expect(line.changes == copyLine.changes)
  }

  private func perturb(_ rtc: RTC, _ clock: FakeClock, _ random: inout SeededRandom) -> UInt64 {
    let value = random.next()
    rtc.write(region: 0, offset: 0, size: 1, value: (value >> 8) % 16)
    switch (value >> 16) % 6 {
    case 0, 1: return rtc.read(region: 0, offset: 1, size: 1)
    case 2, 3: rtc.write(region: 0, offset: 1, size: 1, value: value & 0xff)
    case 4:
      rtc.write(region: 0, offset: 0, size: 1, value: 0xa)
      rtc.write(region: 0, offset: 1, size: 1, value: 0x20 | value & 0xf)
    default: clock.advance(by: (value >> 24) % (1 << ((value >> 20) % 42)))
    }
    rtc.write(region: 0, offset: 0, size: 1, value: 0xc)
    return value & 1 != 0 ? rtc.read(region: 0, offset: 1, size: 1) : 0
  }
}
