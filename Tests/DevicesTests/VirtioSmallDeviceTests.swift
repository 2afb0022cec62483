import Machine
import TestSupport
import Testing

@testable import Devices

/// Console and balloon.
@Suite struct VirtioSmallDeviceTests {
  private final class Sink: CharacterBackend {
    var bytes: [UInt8] = []
    var room = Int.max

    func send(_ bytes: [UInt8]) -> Int {
      let count = min(room, bytes.count)
      self.bytes += bytes.prefix(count)
      room -= count
      return count
    }
  }

  private let platform: FakePlatform

  init() throws { platform = try FakePlatform() }

  @Test func consoleSends() {
    let console = VirtioConsole()
    let sink = Sink()
    console.backend = sink
    let driver = VirtioDriver(console, on: platform)
    _ = platform.memory.fill(.init(0x8000), count: 100, with: 0x41)
    driver.queues[1].offer([.init(0x8000, 60), .init(0x803c, 40)])
    driver.queues[1].offer([.init(0x8000, 5)])
    sink.room = 70
    driver.notify(1)
    #expect(sink.bytes.count == 70 && driver.queues[1].takeUsed().count == 1)
    sink.room = .max
    console.resumeTransmission()
    #expect(sink.bytes.count == 105 && driver.queues[1].takeUsed().count == 1)
    // The emergency write.
    driver.device.poke(0x108, 0x42, size: 4)
    #expect(sink.bytes.last == 0x42 && sink.bytes.count == 106)
  }

  @Test func consoleReceives() throws {
    let console = VirtioConsole()
    let driver = VirtioDriver(console, on: platform)
    #expect(!console.isListening)
    driver.queues[0].offer([.init(0x8000, 4, isWritable: true)])
    driver.notify(0)
    #expect(console.isListening && console.canReceive)
    console.receive(Array("abcdef".utf8))
    #expect(driver.queues[0].takeUsed().map(\.written) == [4] && !console.canReceive)
    let copy = platform.start(VirtioMMIO(VirtioConsole(), interrupt: .unconnected))
    try transfer(from: driver.device, to: copy)
    driver.queues[0].offer([.init(0x9000, 4, isWritable: true)])
    copy.poke(0x50, 0, size: 4)
    #expect(driver.queues[0].takeUsed().map(\.written) == [2])
    #expect(driver.queues[0].load(0x9000, as: UInt16.self) == 0x6665)
  }

  @Test func balloonGivesPagesBack() {
    let balloon = VirtioBalloon()
    let driver = VirtioDriver(balloon, on: platform)
    balloon.target = 7
    #expect(driver.acknowledge() == 2 && driver.device.peek(0x100, size: 4) == 7 && driver.value(0xfc) == 1)
    _ = platform.memory.fill(.init(0x4_0000), count: 0x8000, with: 0x55)
    // Pages 0x40, 0x41 and 0x43, and one that is no RAM.
    for (index, page) in [0x41, 0x43, 0x40, 0xffff_ffff].enumerated() {
      driver.queues[0].store(UInt32(page), at: 0x8000 + UInt64(4 * index))
    }
    driver.queues[0].offer([.init(0x8000, 16)])
    driver.notify(0)
    #expect(driver.queues[0].takeUsed().count == 1)
    func byte(_ address: UInt64) -> UInt8 { driver.queues[0].load(address) }
    #expect(byte(0x4_0000) == 0 && byte(0x4_1fff) == 0 && byte(0x4_2000) == 0x55 && byte(0x4_3000) == 0)
    driver.device.poke(0x104, 3, size: 4)
    #expect(balloon.actual == 3)
    // Free pages are reported as room; parts of pages stay.
    driver.queues[2].offer([.init(0x4_4000, 0x1800, isWritable: true)])
    driver.notify(2)
    #expect(byte(0x4_4fff) == 0 && byte(0x4_5000) == 0x55 && !driver.needsReset)
  }
}
