import Memory
import TestSupport
import Testing
import X86

@testable import Devices

@Suite struct DMATests {
  private let platform: FakePlatform
  private let dma: DMAController

  init() throws {
    platform = try FakePlatform(memorySize: 2 << 20)
    dma = platform.start(DMAController())
  }

  private func set(_ channel: UInt64, page: UInt64, address: UInt64, count: UInt64, mode: UInt64) {
    dma.poke(12, 0)
    dma.poke(channel * 2, address & 0xff)
    dma.poke(channel * 2, address >> 8)
    dma.poke(channel * 2 + 1, (count - 1) & 0xff)
    dma.poke(channel * 2 + 1, (count - 1) >> 8)
    dma.poke([7, 3, 1, 2][Int(channel)], page, region: 2)
    dma.poke(11, mode | channel)
    dma.poke(10, channel)
  }

  private func move(_ channel: Int, _ direction: DMAController.Direction, _ bytes: inout [UInt8]) -> (Int, Bool) {
    bytes.withUnsafeMutableBytes { dma.transfer(channel: channel, direction, $0) }
  }

  private func memory(_ address: UInt64, _ count: Int) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: count)
    #expect(bytes.withUnsafeMutableBytes { platform.memory.read(GuestPhysicalAddress(address), into: $0) })
    return bytes
  }

  @Test func bytesMoveUntilTheCountIsThrough() {
    set(2, page: 0x12, address: 0x3456, count: 6, mode: 0x44)
    var bytes: [UInt8] = [1, 2, 3, 4]
    #expect(move(2, .toMemory, &bytes) == (4, false))
    #expect(dma.peek(8) & 0xf == 0)
    #expect(move(2, .toMemory, &bytes) == (2, true))
    #expect(memory(0x12_3456, 7) == [1, 2, 3, 4, 1, 2, 0])
    // Terminal count is in the status, once, and the channel is masked.
    #expect(dma.peek(8) & 0xf == 4 && dma.peek(8) & 0xf == 0 && dma.peek(15) & 4 != 0)
    #expect(move(2, .toMemory, &bytes) == (0, false))
    // Address and count as they are now.
    dma.poke(12, 0)
    #expect(dma.peek(4) == 0x5c && dma.peek(4) == 0x34 && dma.peek(5) == 0xff && dma.peek(5) == 0xff)
  }

  @Test func channelsWrapWithinTheirPage() {
    set(1, page: 1, address: 0xfffe, count: 4, mode: 0x44)
    var bytes: [UInt8] = [1, 2, 3, 4]
    #expect(move(1, .toMemory, &bytes) == (4, true))
    #expect(memory(0x1_fffe, 2) == [1, 2] && memory(0x1_0000, 2) == [3, 4])
  }

  @Test func modesAreObserved() {
    #expect(platform.memory.store(0x0403_0201 as UInt32, at: GuestPhysicalAddress(0x1000)))
    // Downwards, from memory, and again from the beginning.
    set(3, page: 0, address: 0x1003, count: 4, mode: 0x78)
    var bytes = [UInt8](repeating: 0, count: 4)
    for _ in 0..<2 { #expect(move(3, .fromMemory, &bytes) == (4, true) && bytes == [4, 3, 2, 1]) }
    // The other direction; masked; the whole controller off.
    #expect(move(3, .toMemory, &bytes) == (0, false))
    dma.poke(10, 7)
    #expect(move(3, .fromMemory, &bytes) == (0, false))
    dma.poke(14, 0)
    dma.poke(8, 4)
    #expect(move(3, .fromMemory, &bytes) == (0, false))
    dma.poke(13, 0)
    #expect(dma.peek(15) == 0xff && move(3, .fromMemory, &bytes) == (0, false))
    // What is no memory.
    set(0, page: 0xf0, address: 0, count: 4, mode: 0x48)
    #expect(move(0, .fromMemory, &bytes) == (4, true) && bytes == [0xff, 0xff, 0xff, 0xff])
  }

  @Test func registersAreWhereAPCHasThem() {
    for offset: UInt64 in 0..<16 { dma.poke(offset, 0x40 + offset, region: 2) }
    #expect((0..<16 as Range<UInt64>).allSatisfy { dma.peek($0, region: 2) == 0x40 + $0 })
    // The second chip's registers are at every other port.
    dma.poke(24, 0, region: 1)
    dma.poke(4, 0x34, region: 1)
    dma.poke(4, 0x12, region: 1)
    dma.poke(24, 0, region: 1)
    #expect(dma.peek(4, region: 1) == 0x34 && dma.peek(4, region: 1) == 0x12)
    #expect(dma.peek(4) == 0)
  }

  @Test func stateSurvives() throws {
    set(2, page: 0, address: 0x1000, count: 6, mode: 0x44)
    var bytes: [UInt8] = [1, 2, 3, 4]
    #expect(move(2, .toMemory, &bytes) == (4, false))
    let copy = platform.start(DMAController())
    try transfer(from: dma, to: copy)
    #expect(copy.save() == dma.save())
    #expect(bytes.withUnsafeMutableBytes { copy.transfer(channel: 2, .toMemory, $0) } == (2, true))
  }

  @Test func randomAccesses() {
    dma.withstand(100_000, seed: 3, offsets: 40) { random in
      var bytes = [UInt8](repeating: 0, count: 16)
      _ = move(Int.random(in: 0..<4, using: &random), Bool.random(using: &random) ? .toMemory : .fromMemory, &bytes)
    }
  }
}
