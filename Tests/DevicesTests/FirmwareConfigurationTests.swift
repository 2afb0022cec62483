import Machine
import Memory
import TestSupport
import Testing
import X86

@testable import Devices

@Suite struct FirmwareConfigurationTests {
  private let platform: FakePlatform
  private let device: FirmwareConfiguration
  private let written = Written()

  private final class Written { var value: [[UInt8]] = [] }

  init() throws {
    platform = try FakePlatform()
    var items = FirmwareConfigurationItems(memory: 512 << 20, processorCount: 3)
    items.add("etc/one", [1, 2, 3])
    items.add("opt/two", Array("hello".utf8))
    items.addWritable("etc/address", count: 8) { [written] in written.value.append($0) }
    device = platform.start(FirmwareConfiguration(items))
  }

  private func select(_ key: UInt64) { device.poke(0, key, size: 2) }

  private func bytes(_ key: UInt64, _ count: Int) -> [UInt8] {
    select(key)
    return (0..<count).map { _ in UInt8(device.peek(1)) }
  }

  @Test func items() {
    #expect(bytes(0, 5) == Array("QEMU".utf8) + [0])
    #expect(bytes(1, 4) == [3, 0, 0, 0])
    #expect(bytes(3, 8) == [0, 0, 0, 0x20, 0, 0, 0, 0])
    #expect(bytes(5, 2) == [3, 0] && bytes(15, 3) == [3, 0, 0])
    #expect(bytes(0x8002, 1) == [1])
    // What is not there is empty.
    #expect(bytes(0x1234, 2) == [0, 0])
    // The selector is 16 bits wide and in one piece.
    select(5)
    device.poke(0, 1)
    device.poke(1, 7)
    #expect(device.peek(1) == 3)
  }

  @Test func files() throws {
    let directory = bytes(0x19, 4 + 2 * 64)
    #expect(directory[..<4] == [0, 0, 0, 3])
    #expect(directory[4..<12] == [0, 0, 0, 3, 0, 0x20, 0, 0])
    #expect(directory[12..<20] == ArraySlice(Array("etc/one".utf8) + [0]))
    #expect(directory[68..<76] == [0, 0, 0, 5, 0, 0x21, 0, 0])
    #expect(bytes(0x20, 4) == [1, 2, 3, 0])
    #expect(bytes(0x21, 5) == Array("hello".utf8))
  }

  /// The guest writes a file that it may write, by DMA, within its size; everybody sees it until the next reset.
  @Test func writableFile() throws {
    #expect(platform.memory.store(0x0807_0605_0403_0201 as UInt64, at: GuestPhysicalAddress(Self.target)))
    // Select, and write.
    #expect(transfer(0x22 << 16 | 0x18, 4) == 0 && written.value == [[1, 2, 3, 4, 0, 0, 0, 0]])
    #expect(transfer(0x10, 4) == 0 && written.value.last == [1, 2, 3, 4, 1, 2, 3, 4])
    #expect(bytes(0x22, 9) == [1, 2, 3, 4, 1, 2, 3, 4, 0])
    // Too long, from nowhere, another file.
    #expect(transfer(0x22 << 16 | 0x18, 9) == 1 && transfer(0x22 << 16 | 0x18, 8, to: 1 << 40) == 1)
    #expect(transfer(0x21 << 16 | 0x18, 1) == 1 && transfer(0x22 << 16 | 0x18, .max) == 1)
    #expect(written.value.count == 2 && bytes(0x21, 5) == Array("hello".utf8))
    var items = FirmwareConfigurationItems(memory: 1 << 20, processorCount: 1)
    for name in ["a", "b"] { items.add(name, []) }
    items.addWritable("c", count: 8) { _ in }
    let copy = platform.start(FirmwareConfiguration(items))
    try TestSupport.transfer(from: device, to: copy)
    copy.poke(0, 0x22, size: 2)
    #expect(copy.peek(1) == 1)
    device.reset()
    #expect(bytes(0x22, 8) == [UInt8](repeating: 0, count: 8))
  }

  private static let descriptor: UInt64 = 0x1000
  private static let target: UInt64 = 0x2000

  /// Carries out a DMA descriptor; returns its control word.
  private func transfer(_ control: UInt32, _ length: UInt32, to target: UInt64 = target) -> UInt32? {
    let address = GuestPhysicalAddress(Self.descriptor)
    #expect(platform.memory.store(control.bigEndian, at: address))
    #expect(platform.memory.store(length.bigEndian, at: address &+ 4))
    #expect(platform.memory.store(target.bigEndian, at: address &+ 8))
    device.poke(0, 0, size: 4, region: 1)
    device.poke(4, UInt64(UInt32(Self.descriptor).bigEndian), size: 4, region: 1)
    return platform.memory.load(address, as: UInt32.self)?.bigEndian
  }

  private func memory(_ count: Int) -> [UInt8] {
    (0..<UInt64(count)).map { platform.memory.load(GuestPhysicalAddress(Self.target + $0), as: UInt8.self) ?? 0xee }
  }

  @Test func directMemoryAccess() {
    #expect(device.peek(0, size: 8, region: 1).bigEndian == 0x5145_4d55_2043_4647)
    #expect(transfer(0x21 << 16 | 8 | 2, 3) == 0 && memory(3) == Array("hel".utf8))
    // On from there, and zeros behind the item's end.
    platform.memory.fill(GuestPhysicalAddress(Self.target), count: 8, with: 0xaa)
    #expect(transfer(2, 4) == 0 && memory(5) == Array("lo".utf8) + [0, 0, 0xaa])
    #expect(transfer(0x21 << 16 | 8 | 4, 1) == 0)
    #expect(transfer(2, 2) == 0 && memory(2) == Array("el".utf8))
    #expect(transfer(0x21 << 16 | 8 | 4, .max) == 0 && device.peek(1) == 0)
    // Writing is not offered, and neither is memory that is not there.
    #expect(transfer(16, 1) == 1)
    #expect(transfer(0x21 << 16 | 8 | 2, 5, to: (1 << 20) - 4) == 1)
    #expect(transfer(0x21 << 16 | 8 | 2, .max, to: 0) == 1)
    #expect(transfer(2, 1, to: .max) == 1)
    device.poke(0, UInt64(0x1_0000_0000).bigEndian, size: 8, region: 1)
  }

  @Test func savesAndRestores() throws {
    select(0x21)
    _ = device.peek(1)
    let copy = platform.start(
      FirmwareConfiguration(FirmwareConfigurationItems(memory: 1 << 20, processorCount: 1)))
    copy.restore(try device.storedState())
    #expect(copy.peek(1) == 0)
    device.reset()
    #expect(device.peek(1) == UInt64(UInt8(ascii: "Q")))
    var state = device.save()
    state.offset = .max
    device.restore(state)
    #expect(device.peek(1) == 0)
    device.withstand(4000, seed: 3, offsets: 12)
  }
}
