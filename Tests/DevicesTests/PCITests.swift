import Machine
import Memory
import TestSupport
import Testing

@testable import Devices

@Suite struct PCITests {
  private let platform: FakePlatform
  private let bus = PCIBus()
  private let ports: PCIConfigurationPorts

  init() throws {
    platform = try FakePlatform()
    bus.insert(platform.start(PCIBridge.hostBridge440FX()), at: PCIAddress(device: 0))
    bus.insert(platform.start(PCIBridge.isaBridgePIIX3()), at: PCIAddress(device: 1))
    bus.insert(platform.start(PCIBridge.powerManagementPIIX4(base: 0x600)), at: PCIAddress(device: 1, function: 3))
    ports = platform.start(PCIConfigurationPorts(bus: bus))
  }

  private func select(_ device: UInt64, _ function: UInt64, _ register: UInt64, bus: UInt64 = 0) {
    ports.poke(0, 1 << 31 | bus << 16 | device << 11 | function << 8 | register & 0xfc, size: 4)
  }

  private func read(_ device: UInt64, _ function: UInt64, _ register: UInt64, size: Int = 4) -> UInt64 {
    select(device, function, register)
    return ports.peek(4 + register & 3, size: size)
  }

  private func write(_ device: UInt64, _ function: UInt64, _ register: UInt64, _ value: UInt64, size: Int = 4) {
    select(device, function, register)
    ports.poke(4 + register & 3, value, size: size)
  }

  /// Linux's test for mechanism #1 (arch/x86/pci/direct.c).
  @Test func addressRegisterIsForDoublewords() {
    ports.poke(3, 0x01)
    #expect(ports.peek(0, size: 4) == 0)
    ports.poke(0, 0x8000_0000, size: 4)
    #expect(ports.peek(0, size: 4) == 0x8000_0000)
    ports.poke(0, 0xffff_ffff, size: 4)
    #expect(ports.peek(0, size: 4) == 0x80ff_fffc)
    #expect(ports.peek(0, size: 2) == 0x00ff)
  }

  @Test func chipSetIsRecognised() {
    #expect(read(0, 0, 0x00) == 0x1237_8086 && read(0, 0, 0x08) == 0x0600_0002)
    #expect(read(1, 0, 0x00) == 0x7000_8086 && read(1, 0, 0x08) == 0x0601_0000)
    #expect(read(1, 0, 0x0e, size: 1) == 0x80)
    #expect(read(1, 3, 0x00) == 0x7113_8086 && read(1, 3, 0x08) == 0x0680_0003)
    #expect(read(1, 3, 0x40) == 0x601 && read(1, 3, 0x80, size: 1) == 1)
    write(1, 3, 0x40, 0xb001)
    #expect(read(1, 3, 0x40) == 0x601)
    #expect(bus.addresses.map(\.description) == ["00.0", "01.0", "01.3"])
  }

  @Test func emptySlotsReadAllOnes() {
    #expect(read(2, 0, 0x00) == 0xffff_ffff)
    #expect(read(1, 1, 0x00, size: 2) == 0xffff)
    write(2, 0, 0x04, 0xffff)
    select(0, 0, 0, bus: 1)
    #expect(ports.peek(4, size: 4) == 0xffff_ffff)
    ports.poke(0, 0, size: 4)
    #expect(ports.peek(4, size: 4) == 0xffff_ffff)
  }

  @Test func accessesOfAllWidths() {
    write(0, 0, 0x58, 0x4433_2211)
    #expect(read(0, 0, 0x58) == 0x4433_2211)
    #expect(read(0, 0, 0x59, size: 1) == 0x22 && read(0, 0, 0x5a, size: 2) == 0x4433)
    write(0, 0, 0x5a, 0x99, size: 1)
    #expect(read(0, 0, 0x58) == 0x4499_2211)
    // Beyond the last port there is nothing.
    select(0, 0, 0x58)
    #expect(ports.peek(6, size: 4) == 0xffff_4499)
    // Identity is not writable.
    write(0, 0, 0x00, 0)
    #expect(read(0, 0, 0x00) == 0x1237_8086)
    write(1, 3, 0x3c, 0xff05, size: 2)
    #expect(read(1, 3, 0x3c, size: 2) == 0x0105)
  }

  @Test func resetControlNeedsARisingBit() {
    ports.poke(1, 0x02)
    #expect(platform.requests.isEmpty && ports.peek(1) == 0x02)
    ports.poke(1, 0x06)
    ports.poke(1, 0x06)
    #expect(platform.requests == [.reset])
    // The address register does not touch it.
    ports.poke(0, 0x8000_0400, size: 4)
    #expect(platform.requests == [.reset])
  }

  @Test func baseAddressesTellTheirSize() {
    var space = PCIConfigurationSpace(vendor: 0x1234, device: 0x5678, revision: 1, classCode: 0x01_0180)
    space.addBaseAddress(0, kind: .ports, size: 32)
    space.addBaseAddress(1, kind: .memory32(prefetchable: false), size: 4096)
    space.addBaseAddress(2, kind: .memory64(prefetchable: true), size: 1 << 33)
    for offset in 0x10..<0x28 as Range<UInt8> { space.write(offset, 0xff) }
    #expect(space.get(0x10, as: UInt32.self) == 0xffff_ffe1)
    #expect(space.get(0x14, as: UInt32.self) == 0xffff_f000)
    #expect(space.get(0x18, as: UInt64.self) == 0xffff_fffe_0000_000c)
    #expect(space.get(0x20, as: UInt32.self) == 0)
    for (index, byte) in [0x00, 0xd0, 0x00, 0x00].enumerated() { space.write(0x10 + UInt8(index), UInt8(byte)) }
    #expect(space.get(0x10, as: UInt32.self) == 0xd001)
    #expect(space.get(0x09, as: UInt16.self) == 0x0180)
  }

  @Test func statusBitsClearByOne() {
    var space = PCIConfigurationSpace(vendor: 1, device: 2, revision: 0, classCode: 0)
    space.set(0x06, UInt16(0xf280), clearedByOne: 0xf900)
    space.write(0x07, 0x00)
    #expect(space.get(0x06, as: UInt16.self) == 0xf280)
    space.write(0x07, 0xff)
    #expect(space.get(0x06, as: UInt16.self) == 0x0280)
  }

  @Test func stateSurvivesASnapshot() throws {
    let bridge = PCIBridge.isaBridgePIIX3()
    bridge.pci.write(0x60, 0x0b)
    let state = try bridge.storedState()
    bridge.reset()
    #expect(bridge.pci.read(0x60) == 0x80)
    bridge.restore(state)
    #expect(bridge.pci.read(0x60) == 0x0b)
    // A forged snapshot cannot change what is not writable, nor be too short.
    bridge.restore(PCIEndpoint.State(configuration: [UInt8](repeating: 0xff, count: 300), pin: false))
    #expect(bridge.pci.read(0) == 0x86)
    bridge.restore(PCIEndpoint.State(configuration: [], pin: false))
    #expect(bridge.pci.read(0x60) == 0x80)

    select(1, 0, 0x60)
    ports.poke(1, 0x02)
    let saved = try ports.storedState()
    ports.reset()
    ports.restore(saved)
    #expect(ports.save() == saved && ports.peek(1) == 0x02 && ports.peek(4) == 0x80)
  }

  @Test func withstandsAnything() {
    ports.withstand(40_000, seed: 6, offsets: 10) { random in
      // Mostly addresses that something answers at.
      if random.next() % 2 == 0 {
        select(random.next() % 3, random.next() % 4, random.next() % 256)
      }
    }
    #expect(read(0, 0, 0) == 0x1237_8086)
  }
}
