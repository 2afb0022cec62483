import Logging
import Machine
import Testing
import X86

@Suite struct BusTests {
  private let bus = Bus(log: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
  private let device = RecordingDevice("first")
  private let other = RecordingDevice("second")

  @Test func portsReachTheirDeviceWithOffsets() throws {
    try bus.map(device, region: 2, ports: 0x60...0x60, offset: 0)
    try bus.map(device, region: 2, ports: 0x64...0x64, offset: 4)
    #expect(bus.readPort(0x64, size: 1) == 4)
    bus.writePort(0x60, size: 1, value: 0x1fe)
    #expect(
      device.accesses == [.read(region: 2, offset: 4, size: 1), .write(region: 2, offset: 0, size: 1, value: 0xfe)])
    #expect(bus.deviceName(port: 0x64) == "first")
    #expect(bus.deviceName(port: 0x61) == nil)
  }

  @Test(arguments: [(1, 0xff), (2, 0xffff), (4, 0xffff_ffff)] as [(Int, UInt64)])
  func nobodyAnswersWithAllOnes(size: Int, value: UInt64) {
    #expect(bus.readPort(0x1234, size: size) == value)
    bus.writePort(0x1234, size: size, value: 1)
    #expect(bus.readPort(0xffff, size: size) == value)
    #expect(bus.readMemory(GuestPhysicalAddress(0xfeed_0000), size: size) == value)
    #expect(bus.readMemory(GuestPhysicalAddress(~0), size: size) == value)
    bus.writeMemory(GuestPhysicalAddress(~0), size: size, value: 1)
  }

  @Test func wideAccessWithinOneRegionStaysWhole() throws {
    try bus.map(device, region: 0, ports: 0xcf8...0xcff, offset: 0)
    #expect(bus.readPort(0xcfc, size: 4) == 0x5566_7704)
    #expect(device.accesses == [.read(region: 0, offset: 4, size: 4)])
  }

  @Test func accessAcrossRegionsIsSplitIntoBytes() throws {
    try bus.map(device, region: 0, ports: 0x70...0x70, offset: 0)
    try bus.map(other, region: 1, ports: 0x71...0x71, offset: 1)
    #expect(bus.readPort(0x70, size: 4) == 0xffff_0100)
    bus.writePort(0x70, size: 2, value: 0xaabb)
    #expect(device.accesses.last == .write(region: 0, offset: 0, size: 1, value: 0xbb))
    #expect(other.accesses.last == .write(region: 1, offset: 1, size: 1, value: 0xaa))
    // Beyond the last port there is nothing; port 0 is not next to it on the bus, but nobody is there either.
    try bus.map(device, region: 0, ports: 0xffff...0xffff, offset: 0)
    #expect(bus.readPort(0xffff, size: 4) == 0xffff_ff00)
  }

  @Test func memoryIsFoundByRange() throws {
    try bus.map(other, region: 7, memory: 0xfed0_0000..<0xfed0_0400)
    try bus.map(device, region: 3, memory: 0xfec0_0000..<0xfec0_1000)
    #expect(bus.readMemory(GuestPhysicalAddress(0xfec0_0010), size: 4) == 0x5566_7710)
    bus.writeMemory(GuestPhysicalAddress(0xfed0_03f8), size: 8, value: 5)
    #expect(device.accesses == [.read(region: 3, offset: 0x10, size: 4)])
    #expect(other.accesses == [.write(region: 7, offset: 0x3f8, size: 8, value: 5)])
    #expect(bus.readMemory(GuestPhysicalAddress(0xfed0_0400), size: 1) == 0xff)
    #expect(bus.readMemory(GuestPhysicalAddress(0xfebf_ffff), size: 1) == 0xff)
    // Over the end of a region: bytes, the rest all ones.
    #expect(bus.readMemory(GuestPhysicalAddress(0xfed0_03ff), size: 2) == 0xffff)
    #expect(other.accesses.last == .read(region: 7, offset: 0x3ff, size: 1))
    #expect(bus.deviceName(page: 0xfed0_0000) == "second")
  }

  @Test func claimsMustNotOverlap() throws {
    try bus.map(device, region: 0, ports: 0x3f8...0x3ff, offset: 0)
    #expect(throws: BusConflict.self) { try bus.map(other, region: 0, ports: 0x3ff...0x400, offset: 0) }
    #expect(bus.deviceName(port: 0x400) == nil)
    try bus.map(device, region: 0, memory: 0x1000..<0x2000)
    #expect(throws: BusConflict.self) { try bus.map(other, region: 0, memory: 0x1fff..<0x3000) }
    #expect(throws: BusConflict.self) { try bus.map(other, region: 0, memory: 0x5000..<0x5000) }
  }
}
