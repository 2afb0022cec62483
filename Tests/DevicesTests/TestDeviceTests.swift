import Machine
import TestSupport
import Testing

@testable import Devices

@Suite struct TestDeviceTests {
  private let platform: FakePlatform
  private let lines: [RecordedLine]
  private let device: TestDevice

  init() throws {
    let platform = try FakePlatform()
    self.platform = platform
    lines = (0..<24).map { _ in RecordedLine(clock: platform.clock) }
    device = platform.start(TestDevice(lines: lines.map(\.line)))
  }

  @Test func portsDriveLines() {
    device.poke(14, 1)
    device.poke(0, 0x80)
    #expect(lines[14].level && lines[0].level && !lines[1].level)
    device.poke(14, 0)
    #expect(!lines[14].level)
    // Beyond the last line there is nothing.
    device.poke(24, 1)
    device.poke(.max, 1)
    #expect(lines.filter(\.level).count == 1)
    device.reset()
    #expect(!lines[0].level)
  }

  @Test func registerInAnySize() {
    device.poke(0, 0x1234_5678, size: 4, region: 1)
    #expect(device.peek(0, size: 4, region: 1) == 0x1234_5678)
    device.poke(1, 0xaa, region: 1)
    device.poke(2, 0xbbcc, size: 2, region: 1)
    #expect(device.peek(0, size: 4, region: 1) == 0xbbcc_aa78)
    #expect(device.peek(2, size: 2, region: 1) == 0xbbcc && device.peek(1, region: 3) == 0xaa)
    device.poke(3, 0x11, region: 3)
    #expect(device.peek(0, size: 4, region: 1) == 0x11cc_aa78)
    // Flushing a page changes nothing.
    device.poke(0, 0x1000, size: 4, region: 2)
    #expect(device.peek(0, size: 4, region: 1) == 0x11cc_aa78)
  }

  @Test func memory() {
    device.poke(0xfff8, 0x1122_3344_5566_7788, size: 8, region: 4)
    #expect(device.peek(0xfffc, size: 4, region: 4) == 0x1122_3344 && device.peek(0xffff, region: 4) == 0x11)
    #expect(device.peek(0x10000, region: 4) == 0xff)
    device.reset()
    #expect(device.peek(0xfff8, size: 8, region: 4) == 0)
  }

  @Test func savesAndRestores() throws {
    device.poke(5, 1)
    device.poke(0, 0xdead_beef, size: 4, region: 1)
    device.poke(7, 9, region: 4)
    let others = (0..<24).map { _ in RecordedLine(clock: platform.clock) }
    let copy = platform.start(TestDevice(lines: others.map(\.line)))
    try transfer(from: device, to: copy)
    #expect(others[5].level && copy.peek(0, size: 4, region: 1) == 0xdead_beef && copy.peek(7, region: 4) == 9)
    var state = copy.save()
    state.memory = []
    copy.restore(state)
    #expect(copy.peek(0xffff, region: 4) == 0)
    copy.withstand(2000, seed: 5, offsets: 0x30)
    withExtendedLifetime(others) {}
  }
}
