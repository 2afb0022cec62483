import Memory
import TestSupport
import Testing
import X86

@testable import Devices

@Suite struct FlashTests {
  private let range: Range<UInt64> = 0xffc0_0000..<0xffc0_4000

  private func make(_ platform: FakePlatform) -> Flash {
    platform.start(
      Flash(
        (0..<0x4000).map { UInt8(truncatingIfNeeded: $0) }, memory: platform.memory.takeDeviceMemory(0x4000), at: range)
    )
  }

  private func mapped(_ platform: FakePlatform, _ offset: UInt64) -> UInt8? {
    platform.memory.load(GuestPhysicalAddress(range.lowerBound + offset), as: UInt8.self)
  }

  /// What OVMF does to find out whether it runs from flash.
  @Test func detection() throws {
    let platform = try FakePlatform(deviceMemory: 0x4000)
    let flash = make(platform)
    #expect(mapped(platform, 0x1234) == 0x34)
    flash.poke(0x10, 0x50)
    #expect(mapped(platform, 0x10) == 0x10)
    flash.poke(0x10, 0x70)
    #expect(mapped(platform, 0x10) == nil && flash.peek(0x10) == 0)
    flash.poke(0x10, 0xff)
    #expect(mapped(platform, 0x10) == 0x10)
  }

  @Test func programmingAndErasing() throws {
    let platform = try FakePlatform(deviceMemory: 0x4000)
    let flash = make(platform)
    var changes: [Range<Int>] = []
    flash.onChange = { changes.append($0..<$0 + $1.count) }
    flash.poke(0x100, 0x10)
    flash.poke(0x100, 0xaa)
    #expect(flash.peek(0x100) == 0x80 && mapped(platform, 0x100) == nil)
    flash.poke(0x100, 0xff)
    #expect(mapped(platform, 0x100) == 0xaa && mapped(platform, 0x101) == 1)
    flash.poke(0x1100, 0x20)
    flash.poke(0x1100, 0xd0)
    flash.poke(0x1100, 0xff)
    #expect(mapped(platform, 0x1000) == 0xff && mapped(platform, 0x1fff) == 0xff && mapped(platform, 0x2000) == 0)
    #expect(changes == [0x100..<0x101, 0x1000..<0x2000])
    // Erasing without its confirmation is an error, and erases nothing.
    flash.poke(0, 0x20)
    flash.poke(0, 0xff)
    #expect(flash.peek(0) == 0xb0)
    flash.poke(0, 0x50)
    #expect(mapped(platform, 1) == 1)
    // Three bytes by the buffer.
    flash.poke(0x10, 0xe8)
    flash.poke(0x10, 2)
    for offset: UInt64 in 0x10..<0x13 { flash.poke(offset, 0x50 + offset) }
    flash.poke(0x10, 0xd0)
    flash.poke(0x10, 0xff)
    #expect((0x0f..<0x14).map { mapped(platform, $0) } == [0x0f, 0x60, 0x61, 0x62, 0x13])
    // What it holds stays over a reset.
    flash.reset()
    #expect(mapped(platform, 0x100) == 0xaa)
  }

  @Test func identification() throws {
    let platform = try FakePlatform(deviceMemory: 0x4000)
    let flash = make(platform)
    flash.poke(0, 0x98)
    #expect((0x10..<0x13).map { flash.peek($0) } == [0x51, 0x52, 0x59])
    #expect(flash.peek(0x2d) == 3 && flash.peek(0x2f) == 16)
    flash.poke(0, 0x90)
    #expect(flash.peek(0) == 0x89)
  }

  @Test func snapshots() throws {
    let platform = try FakePlatform(deviceMemory: 0x8000)
    let (flash, copy) = (make(platform), make(platform))
    flash.poke(5, 0x40)
    flash.poke(5, 0x77)
    try transfer(from: flash, to: copy)
    #expect(copy.peek(5) == 0x80)
    copy.poke(5, 0xff)
    #expect(copy.peek(5) == 0x77)
  }

  @Test func randomAccesses() throws {
    let platform = try FakePlatform(deviceMemory: 0x4000)
    make(platform).withstand(50_000, seed: 3, offsets: 0x4100)
  }
}
