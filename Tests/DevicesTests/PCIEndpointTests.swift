import Machine
import Memory
import TestSupport
import Testing

@testable import Devices

/// A function with a region of each kind and both kinds of messages.
private final class TestFunction: PCIFunction {
  let name = "test"
  let pci: PCIEndpoint

  init() {
    pci = PCIEndpoint(PCIConfigurationSpace(vendor: 0x1234, device: 0x5678, revision: 1, classCode: 0x01_0000))
    pci.addRegion(0, index: 0, kind: .ports, size: 16)
    pci.addRegion(1, index: 1, kind: .memory32(prefetchable: false), size: 4096)
    pci.addRegion(2, index: 2, kind: .memory64(prefetchable: true), size: 1 << 20)
    pci.addInterruptPin()
    pci.addMessage()
    pci.addMessageTable(3, region: 3, index: 4)
  }

  func attach(to platform: DevicePlatform) {}
  func reset() { pci.reset() }
  func read(region: Int, offset: UInt64, size: Int) -> UInt64 {
    region == 3 ? pci.readMessages(offset: offset, size: size) : UInt64(region) << 32 | offset
  }
  func write(region: Int, offset: UInt64, size: Int, value: UInt64) {
    if region == 3 { pci.writeMessages(offset: offset, size: size, value: value) }
  }
  func save() -> PCIEndpoint.State { pci.save() }
  func restore(_ state: PCIEndpoint.State) { pci.restore(state) }
}

private final class FakeMapping: BusMapping {
  var places: [Int: BusPlacement] = [:]
  func map(_ device: any Device, region: Int, ports: ClosedRange<UInt16>, offset: UInt64) throws(BusConflict) {}
  func map(_ device: any Device, region: Int, memory: Range<UInt64>) throws(BusConflict) {}
  func place(_ device: any Device, region: Int, at placement: BusPlacement?) { places[region] = placement }
}

@Suite struct PCIEndpointTests {
  private struct Message: Equatable {
    var address: UInt64
    var data: UInt32
  }

  private let platform: FakePlatform
  private let mapping = FakeMapping()
  private let line: RecordedLine
  private let isaLine: RecordedLine
  private let router: PCIInterruptRouter
  private let function: TestFunction
  private let messages = Box<[Message]>([])
  private let bus: PCIBus

  private final class Box<T> {
    var value: T
    init(_ value: T) { self.value = value }
  }

  init() throws {
    platform = try FakePlatform()
    let line = RecordedLine(clock: platform.clock)
    let isaLine = RecordedLine(clock: platform.clock)
    (self.line, self.isaLine) = (line, isaLine)
    // Device 3, pin A: wire 3.
    router = PCIInterruptRouter(inputs: [.unconnected, .unconnected, .unconnected, line.line]) {
      $0 == 11 ? isaLine.line : .unconnected
    }
    bus = PCIBus(mapping: mapping, interrupts: router) { [messages] in
      messages.value.append(Message(address: $0, data: $1))
    }
    function = TestFunction()
    bus.insert(function, at: PCIAddress(device: 3))
    _ = platform.start(function)
  }

  private func write(_ offset: UInt8, _ value: UInt64, _ size: Int) {
    for index in 0..<size {
      function.pci.write(offset + UInt8(index), UInt8(truncatingIfNeeded: value >> UInt64(8 * index)))
    }
  }

  private func read(_ offset: UInt8, _ size: Int) -> UInt64 {
    (0..<size).reduce(0) { $0 | UInt64(function.pci.read(offset + UInt8($1))) << UInt64(8 * $1) }
  }

  @Test func regionsAreWhereTheGuestPutsThem() {
    write(0x10, 0xc000, 4)
    write(0x14, 0xfebf_0000, 4)
    write(0x18, 0x40_0000_0000, 8)
    #expect(mapping.places.isEmpty)
    write(0x04, 3, 2)
    #expect(
      mapping.places == [
        0: .ports(0xc000...0xc00f), 1: .memory(0xfebf_0000..<0xfebf_1000), 2: .memory(0x40_0000_0000..<0x40_0010_0000),
      ])
    // Sizing: all ones, at which nothing answers.
    write(0x14, 0xffff_ffff, 4)
    #expect(read(0x14, 4) == 0xffff_f000 && mapping.places[1] == nil)
    write(0x10, 0xffff_ffff, 4)
    #expect(read(0x10, 4) == 0xffff_fff1 && mapping.places[0] == nil)
    write(0x18, .max, 8)
    #expect(read(0x18, 8) == 0xffff_ffff_fff0_000c && mapping.places[2] == nil)
    write(0x14, 0xfebf_2000, 4)
    #expect(mapping.places[1] == .memory(0xfebf_2000..<0xfebf_3000))
    write(0x04, 1, 2)
    #expect(mapping.places[1] == nil)
    function.reset()
    #expect(mapping.places.isEmpty && read(0x14, 4) == 0)
  }

  @Test func capabilitiesAreFound() {
    #expect(read(0x06, 2) & 0x10 != 0)
    var found: [UInt64] = []
    var next = UInt8(read(0x34, 1))
    while next != 0 {
      found.append(read(next, 1))
      next = UInt8(read(next + 1, 1))
    }
    #expect(found.sorted() == [0x05, 0x11])
  }

  private func capability(_ identifier: UInt64) -> UInt8 {
    var next = UInt8(read(0x34, 1))
    while next != 0, read(next, 1) != identifier { next = UInt8(read(next + 1, 1)) }
    return next
  }

  @Test func pinIsALevelThatCanBeSwitchedOff() {
    function.pci.setInterrupt(true)
    #expect(line.level && read(0x06, 2) & 8 != 0)
    write(0x04, 0x400, 2)
    #expect(!line.level && read(0x06, 2) & 8 != 0)
    write(0x04, 0, 2)
    #expect(line.level)
    // Wire 3 is PIRQC of the PIIX3, since wire 1 is PIRQA.
    router.setRoutes([0x80, 0x80, 0x0b, 0x80])
    #expect(isaLine.level)
    router.setRoutes([0x80, 0x80, 0x8b, 0x80])
    #expect(!isaLine.level)
    function.pci.setInterrupt(false)
    #expect(!line.level && read(0x06, 2) & 8 == 0)
  }

  @Test func oneMessageTakesThePlaceOfThePin() {
    let offset = capability(0x05)
    write(offset + 4, 0xfee0_1000, 8)
    write(offset + 12, 0x41, 2)
    write(offset + 2, 1, 2)
    function.pci.setInterrupt(true)
    function.pci.setInterrupt(true)
    #expect(messages.value == [Message(address: 0xfee0_1000, data: 0x41)] && !line.level)
    function.pci.setInterrupt(false)
    function.pci.setInterrupt(true)
    #expect(messages.value.count == 2)
  }

  @Test func tableOfMessages() throws {
    let offset = capability(0x11)
    #expect(read(offset + 2, 2) == 2)
    function.poke(16, 0xfee0_2000, size: 8, region: 3)
    function.poke(24, 0x51, size: 4, region: 3)
    function.pci.signal(1)
    #expect(messages.value.isEmpty && !function.pci.usesMessageTable)
    write(offset + 2, 0x8000, 2)
    // Entries are masked at first: the message waits, and the pending bit says so.
    function.pci.signal(1)
    #expect(messages.value.isEmpty && function.peek(2048, size: 4, region: 3) == 2)
    function.poke(28, 0, size: 4, region: 3)
    #expect(messages.value == [Message(address: 0xfee0_2000, data: 0x51)])
    #expect(function.peek(2048, size: 8, region: 3) == 0)
    // The whole function masked.
    write(offset + 2, 0xc000, 2)
    function.pci.signal(1)
    function.pci.signal(99)
    #expect(messages.value.count == 1)
    let state = try function.storedState()
    write(offset + 2, 0x8000, 2)
    #expect(messages.value.count == 2)
    function.reset()
    function.restore(state)
    #expect(function.pci.usesMessageTable && function.peek(2048, size: 4, region: 3) == 2)
    #expect(function.peek(16, size: 8, region: 3) == 0xfee0_2000)
  }

  @Test func anyAccessIsSurvived() {
    function.withstand(20_000, seed: 11, offsets: 8192) { random in
      function.pci.write(UInt8.random(in: 0...255, using: &random), UInt8.random(in: 0...255, using: &random))
      function.pci.signal(Int.random(in: -1...4, using: &random))
      _ = function.read(region: 3, offset: UInt64.random(in: 0...5000, using: &random), size: 8)
      function.write(region: 3, offset: UInt64.random(in: 0...5000, using: &random), size: 4, value: random.next())
    }
  }
}
