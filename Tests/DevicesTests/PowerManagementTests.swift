import Machine
import Memory
import TestSupport
import Testing

@testable import Devices

@Suite struct PowerManagementTests {
  private let platform: FakePlatform
  private let line: RecordedLine
  private let device: PowerManagement

  private let pm1Status: UInt64 = 0
  private let pm1Enable: UInt64 = 2
  private let pm1Control: UInt64 = 4
  private let timer: UInt64 = 8
  private let generalStatus: UInt64 = 12
  private let generalEnable: UInt64 = 14

  init() throws {
    platform = try FakePlatform()
    line = RecordedLine(clock: platform.clock)
    device = platform.start(PowerManagement(interrupt: line.line))
  }

  private func enableACPI() { device.poke(0, 0xf1, region: 1) }

  @Test func commandPortSwitchesModes() {
    #expect(device.peek(pm1Control, size: 2) == 0)
    enableACPI()
    #expect(device.peek(pm1Control, size: 2) == 1)
    #expect(device.peek(0, size: 2, region: 1) == 0x00f1)
    device.poke(1, 0x33, region: 1)
    device.poke(0, 0xf0, region: 1)
    #expect(device.peek(pm1Control, size: 2) == 0)
    #expect(device.peek(1, region: 1) == 0x33)
    device.poke(0, 0x77, region: 1)
    #expect(device.peek(pm1Control, size: 2) == 0)
  }

  @Test func timerCountsAtItsFrequency() {
    platform.clock.advance(to: 1_000_000_000)
    #expect(device.peek(timer, size: 4) == 3_579_545)
    platform.clock.advance(to: 1_200_000_000_000)
    #expect(device.peek(timer, size: 4) == (1200 * 3_579_545) & 0xffff_ffff)
    #expect(device.peek(timer + 1) == (1200 * 3_579_545) >> 8 & 0xff)
  }

  @Test(arguments: [24, 32])
  func timerCarryInterrupts(width: Int) {
    let device = platform.start(PowerManagement(interrupt: line.line, timerWidth: width))
    let half = UInt64(1) << (width - 1)
    device.poke(pm1Enable, 1, size: 2)
    #expect(platform.clock.nextDeadline == nil)
    device.poke(0, 0xf1, region: 1)
    #expect(!line.level)
    for carry in 1...3 as ClosedRange<UInt64> {
      platform.clock.advance(to: scaleUp(half * carry, by: 1_000_000_000, over: 3_579_545) - 1)
      #expect(!line.level)
      platform.clock.advance(by: 1)
      #expect(line.level)
      #expect(device.peek(timer, size: 4) == (half * carry) & ((1 << UInt64(width)) - 1))
      #expect(device.peek(pm1Status, size: 2) == 1)
      device.poke(pm1Status, 1, size: 2)
      #expect(!line.level && device.peek(pm1Status, size: 2) == 0)
    }
  }

  @Test func timerStatusNeedsNoInterrupt() {
    platform.clock.advance(by: 601_000_000_000)
    #expect(platform.clock.nextDeadline == nil)
    #expect(device.peek(pm1Status, size: 2) == 1)
    enableACPI()
    #expect(!line.level)
    device.poke(pm1Enable, 1, size: 2)
    #expect(line.level)
  }

  @Test func powerButtonInterrupts() {
    device.poke(pm1Enable, 0x0100, size: 2)
    device.pressPowerButton()
    #expect(!line.level && device.peek(pm1Status, size: 2) == 0x0100)
    enableACPI()
    #expect(line.level)
    // Writing zeros leaves it.
    device.poke(pm1Status, 0, size: 2)
    #expect(line.level)
    device.poke(pm1Status + 1, 0x01)
    #expect(!line.level)
    #expect(platform.inputs.received.count == 1)
  }

  @Test func generalPurposeEvents() {
    enableACPI()
    device.poke(generalEnable, 0x8001, size: 2)
    for number in [-1, 1, 16] { device.raiseGeneralPurposeEvent(number) }
    #expect(!line.level)
    device.raiseGeneralPurposeEvent(15)
    #expect(line.level && device.peek(generalStatus, size: 4) == 0x8001_8002)
    device.poke(generalStatus + 1, 0x80)
    #expect(!line.level && device.peek(generalStatus, size: 2) == 0x0002)
  }

  @Test func sleepTypes() {
    device.poke(pm1Control, 5 << 10 | 1 << 13, size: 2)
    #expect(platform.requests.isEmpty)
    device.poke(pm1Control, 0 << 10, size: 2)
    #expect(platform.requests.isEmpty)
    device.poke(pm1Control, 1 << 13 | 1, size: 2)
    #expect(platform.requests == [.powerOff])
    // SLP_EN reads as zero.
    #expect(device.peek(pm1Control, size: 2) == 1)
    device.poke(pm1Control + 1, 1 << 2 | 1 << 5)
    #expect(platform.requests == [.powerOff, .suspend])
    device.wake()
    #expect(device.peek(pm1Status, size: 2) == 0x8000)
  }

  /// The alarm ends a suspension if its event is enabled; what has happened is seen after the reset that comes with it.
  @Test func alarmWakes() throws {
    device.noteAlarm()
    #expect(device.peek(pm1Status, size: 2) == 0x400 && platform.requests.isEmpty)
    device.poke(pm1Status, 0x400, size: 2)
    device.poke(pm1Control, 1 << 10 | 1 << 13, size: 2)
    device.noteAlarm()
    #expect(platform.requests == [.suspend])
    device.restore(try device.storedState())
    device.poke(pm1Enable, 0x400, size: 2)
    #expect(platform.requests == [.suspend, .wake])
    device.reset()
    #expect(device.peek(pm1Status, size: 2) == 0)
    device.wake()
    #expect(device.peek(pm1Status, size: 2) == 0x8400)
    device.poke(pm1Status, 0xffff, size: 2)
    device.reset()
    device.wake()
    #expect(device.peek(pm1Status, size: 2) == 0x8000)
    // Awake, it has nothing to wake.
    device.poke(pm1Enable, 0x400, size: 2)
    device.noteAlarm()
    #expect(platform.requests == [.suspend, .wake])
  }

  @Test func buttonAndEventsWake() {
    for wake in [{ device.pressPowerButton() }, { device.raiseGeneralPurposeEvent(3) }] {
      device.poke(generalEnable, 8, size: 2)
      device.poke(pm1Control, 1 << 10 | 1 << 13, size: 2)
      wake()
      #expect(platform.requests.suffix(2) == [.suspend, .wake])
      device.reset()
      device.wake()
    }
    // One that is there already lets nobody fall asleep.
    device.pressPowerButton()
    device.poke(pm1Control, 1 << 10 | 1 << 13, size: 2)
    #expect(platform.requests.count == 6)
  }

  @Test func absentRegistersReadZero() {
    for offset in 0x10..<0x40 as Range<UInt64> {
      device.poke(offset, 0xff)
      #expect(device.peek(offset) == 0)
    }
  }

  @Test func stateSurvivesASnapshot() throws {
    enableACPI()
    device.poke(pm1Enable, 0x0121, size: 2)
    device.poke(generalEnable, 0x0404, size: 2)
    device.pressPowerButton()
    platform.clock.advance(by: 700_000_000_000)
    let state = try device.storedState()
    #expect(state == device.save())
    device.reset()
    #expect(!line.level && device.peek(pm1Status, size: 4) == 0)
    device.restore(state)
    #expect(line.level)
    #expect(device.peek(pm1Status, size: 4) == 0x0121_0101)
    device.poke(pm1Status, 0xffff, size: 2)
    #expect(!line.level)
    #expect(platform.clock.nextDeadline != nil)
  }

  @Test func withstandsAnything() throws {
    device.withstand(20_000, seed: 4, offsets: 66) { random in
      platform.clock.advance(by: random.next() % 1_000_000_000)
      switch random.next() % 16 {
      case 0: device.pressPowerButton()
      case 1: device.raiseGeneralPurposeEvent(Int(random.next() % 20))
      case 2: device.restore(device.save())
      default: break
      }
    }
  }

  @Test func withstandsTheEndOfTime() {
    let platform = try? FakePlatform(clock: FakeClock(now: .max - 1000))
    let device = platform?.start(PowerManagement(interrupt: .unconnected))
    device?.withstand(1000, seed: 5, offsets: 66)
  }
}
