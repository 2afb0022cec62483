import Machine
import Memory
import TestSupport
import Testing
import X86

@testable import Devices

/// A floppy disk controller with a disk in drive A, and a driver.
final class FloppyBench {
  let platform: FakePlatform
  let disk: FakeBlockBackend
  let dma: DMAController
  let line: RecordedLine
  let floppy: FloppyController

  init(size: UInt64 = 1440 << 10) throws {
    platform = try FakePlatform()
    disk = FakeBlockBackend(size: size, memory: platform.memory)
    dma = platform.start(DMAController())
    line = RecordedLine(clock: platform.clock)
    floppy = FloppyController(disks: [disk], dma: dma, interrupt: line.line)
    floppy.attach(to: platform.devices)
    floppy.reset()
  }

  var status: UInt64 { floppy.peek(4) }

  /// Lets the chip go, and hears of the four drives.
  func start(rate: UInt64 = 0, withoutDMA: Bool = false) {
    floppy.poke(2, 0x1c)
    #expect(line.level)
    for drive: UInt8 in 0..<4 { #expect(command([8]) == [0xc0 | drive, 0]) }
    #expect(!line.level)
    floppy.poke(0, rate, region: 1)
    #expect(command([3, 0xaf, withoutDMA ? 3 : 2]) == [])
  }

  /// Writes a command whose data are there at once, and reads its result.
  func command(_ bytes: [UInt8]) -> [UInt8] {
    send(bytes)
    disk.completeAll()
    return result()
  }

  func send(_ bytes: [UInt8]) {
    for byte in bytes {
      #expect(status & 0xc0 == 0x80)
      floppy.poke(5, UInt64(byte))
    }
  }

  func result() -> [UInt8] {
    var result: [UInt8] = []
    while status & 0xd0 == 0xd0 { result.append(UInt8(floppy.peek(5))) }
    #expect(status & 0xf0 == 0x80)
    return result
  }

  /// Prepares channel 2 for `count` bytes at 0x4000.
  func setDMA(_ count: UInt64, toMemory: Bool) {
    dma.poke(10, 6)
    dma.poke(12, 0)
    for value in [0x00, 0x40] as [UInt64] { dma.poke(4, value) }
    for value in [(count - 1) & 0xff, (count - 1) >> 8] { dma.poke(5, value) }
    dma.poke(11, toMemory ? 0x46 : 0x4a)
    dma.poke(1, 0, region: 2)
    dma.poke(10, 2)
  }

  func memory(_ count: Int) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: count)
    #expect(bytes.withUnsafeMutableBytes { platform.memory.read(GuestPhysicalAddress(0x4000), into: $0) })
    return bytes
  }

  func seek(_ cylinder: UInt8) {
    #expect(command([0x0f, 0, cylinder]) == [])
    #expect(line.level && command([8]) == [0x20, cylinder] && !line.level)
  }
}
