import Machine
import TestSupport
import Testing

@testable import Devices

@Suite struct ReducedPowerManagementTests {
  private let platform: FakePlatform
  private let line: RecordedLine
  private let device: ReducedPowerManagement

  init() throws {
    platform = try FakePlatform()
    line = RecordedLine(clock: platform.clock)
    device = platform.start(ReducedPowerManagement(button: line.line))
  }

  @Test func sleepRegisterSwitchesOff() {
    // A type without the enable bit, and a type that there is not.
    device.poke(0, 5 << 2)
    device.poke(0, 1 << 5 | 3 << 2)
    #expect(platform.requests.isEmpty)
    device.poke(0, 1 << 5 | 5 << 2)
    #expect(platform.requests == [.powerOff])
    #expect(device.peek(0) == 0 && device.peek(1) == 0)
  }

  @Test func resetRegisterResets() {
    device.poke(2, 6)
    #expect(platform.requests.isEmpty)
    device.poke(2, 1)
    #expect(platform.requests == [.reset])
  }

  @Test func buttonIsAnEdge() {
    device.pressPowerButton()
    #expect(line.changes.map(\.level) == [true, false])
  }

  @Test func stateSurvives() throws {
    let copy = platform.start(ReducedPowerManagement(button: .unconnected))
    try transfer(from: device, to: copy)
    copy.poke(2, 1)
    #expect(platform.requests == [.reset])
  }
}
