import Machine
import TestSupport
import Testing

@testable import Devices

@Suite struct VirtioBlockTests {
  private let platform: FakePlatform
  private let disk: FakeBlockBackend
  private var driver: VirtioDriver<VirtioBlock>

  init() throws {
    platform = try FakePlatform()
    disk = FakeBlockBackend(size: 1 << 20, memory: platform.memory)
    driver = VirtioDriver(VirtioBlock(disk, serial: "disk-one", queueCount: 2), on: platform)
  }

  private static let header: UInt64 = 0x8000
  private static let data: UInt64 = 0x9000
  private static let status: UInt64 = 0x8100

  private func putHeader(_ type: UInt32, sector: UInt64 = 0) {
    driver.queues[0].store(type, at: Self.header)
    driver.queues[0].store(UInt32(0), at: Self.header + 4)
    driver.queues[0].store(sector, at: Self.header + 8)
    driver.queues[0].store(UInt8(0xee), at: Self.status)
  }

  /// Sends a request; `data` is what lies between header and status.
  @discardableResult
  private func send(
    _ type: UInt32, sector: UInt64 = 0, _ data: [GuestVirtqueue.Piece] = [], queue: Int = 0
  ) -> UInt16 {
    putHeader(type, sector: sector)
    let head = driver.queues[queue].offer(
      [.init(Self.header, 16)] + data + [.init(Self.status, 1, isWritable: true)])
    driver.notify(queue)
    return head
  }

  private var result: UInt8 { driver.queues[0].load(Self.status) }

  @Test func configurationSpace() {
    #expect(driver.device.peek(0x100, size: 8) == 2048)
    #expect(driver.device.peek(0x10c, size: 4) == 254)
    #expect(driver.device.peek(0x114, size: 4) == 512)
    #expect(driver.device.peek(0x122, size: 2) == 2)
  }

  @Test func readsAndWrites() {
    send(0, sector: 3, [.init(Self.data, 512, isWritable: true), .init(Self.data + 0x800, 512, isWritable: true)])
    #expect(driver.queues[0].takeUsed().isEmpty && !driver.line.level)
    disk.completeAll()
    #expect(driver.queues[0].takeUsed().map(\.written) == [1025] && result == 0)
    #expect(driver.queues[0].load(Self.data, as: UInt32.self) == 3)
    #expect(driver.queues[0].load(Self.data + 0x800, as: UInt32.self) == 4)
    #expect(driver.line.level)

    driver.queues[0].store(UInt64(0x1122_3344_5566_7788), at: Self.data)
    send(1, sector: 9, [.init(Self.data, 1024)])
    disk.completeAll()
    #expect(driver.queues[0].takeUsed().map(\.written) == [1] && result == 0)
    #expect(Array(disk.contents[9 * 512..<9 * 512 + 8]) == [0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11])
  }

  /// Drivers may put header, data and status into any pieces (2.7.4.1).
  @Test func anyLayout() {
    putHeader(0, sector: 5)
    driver.queues[0].offer([
      .init(Self.header, 7), .init(Self.header + 7, 9), .init(Self.data, 500, isWritable: true),
      .init(Self.data + 500, 13, isWritable: true),
    ])
    driver.notify()
    disk.completeAll()
    #expect(driver.queues[0].takeUsed().map(\.written) == [513])
    #expect(driver.queues[0].load(Self.data, as: UInt32.self) == 5)
    #expect(driver.queues[0].load(Self.data + 512, as: UInt8.self) == 0)
  }

  @Test func nameOfTheDisk() {
    send(8, [.init(Self.data, 20, isWritable: true)])
    #expect(driver.queues[0].takeUsed().map(\.written) == [21])
    let name = (0..<20).map { driver.queues[0].load(Self.data + UInt64($0), as: UInt8.self) }
    #expect(name == Array("disk-one".utf8) + [UInt8](repeating: 0, count: 12))
  }

  @Test func rangesAreDiscardedAndZeroed() {
    for (index, range) in [(1, 2), (8, 4)].enumerated() {
      driver.queues[0].store(UInt64(range.0), at: Self.data + UInt64(16 * index))
      driver.queues[0].store(UInt32(range.1), at: Self.data + UInt64(16 * index) + 8)
      driver.queues[0].store(UInt32(index), at: Self.data + UInt64(16 * index) + 12)
    }
    send(13, [.init(Self.data, 32)])
    disk.completeAll()
    #expect(result == 0 && driver.queues[0].takeUsed().count == 1)
    #expect(
      disk.requests.map(\.operation) == [.writeZeroes(mayUnmap: false), .writeZeroes(mayUnmap: true)])
    #expect(disk.contents[512..<1536].allSatisfy { $0 == 0 } && disk.contents[1536] == 3)

    send(11, [.init(Self.data, 16)])
    disk.completeAll()
    #expect(result == 0 && disk.requests.last?.operation == .discard && disk.requests.last?.count == 1024)
    // "Unmap" means nothing for a discard.
    send(11, [.init(Self.data, 32)])
    #expect(result == 2)
  }

  @Test func writesThroughWithoutACache() {
    driver.device.poke(0x120, 0)
    send(1, [.init(Self.data, 512)])
    disk.complete()
    #expect(driver.queues[0].takeUsed().isEmpty && disk.next?.operation == .flush)
    disk.complete()
    #expect(driver.queues[0].takeUsed().count == 1 && result == 0)
    driver.device.poke(0x120, 1)
    send(1, [.init(Self.data, 512)])
    disk.complete()
    #expect(driver.queues[0].takeUsed().count == 1 && disk.pendingCount == 0)
  }

  @Test func badRequestsFail() {
    // A part of a sector; a sector beyond all disks, and one beyond this; an operation that nobody knows.
    send(0, [.init(Self.data, 100, isWritable: true)])
    #expect(result == 1)
    send(0, sector: .max, [.init(Self.data, 512, isWritable: true)])
    #expect(result == 1)
    send(0, sector: 2048, [.init(Self.data, 512, isWritable: true)])
    disk.completeAll()
    #expect(result == 1)
    send(77)
    #expect(result == 2)
    #expect(driver.queues[0].takeUsed().count == 4 && !driver.needsReset)
    // No room for a status.
    driver.queues[0].offer([.init(Self.header, 16)])
    driver.notify()
    #expect(driver.needsReset)
  }

  @Test mutating func requestsOutliveAReset() {
    send(0, [.init(Self.data, 512, isWritable: true)])
    driver.set(0x70, 0)
    #expect(driver.status == 15)
    disk.completeAll()
    #expect(driver.status == 0 && driver.queues[0].takeUsed().isEmpty)
    #expect(driver.queues[0].load(Self.status, as: UInt8.self) == 0xee)
    driver.start()
    send(0, sector: 1, [.init(Self.data, 512, isWritable: true)])
    disk.completeAll()
    #expect(driver.queues[0].takeUsed().count == 1 && result == 0)
  }

  @Test func queuesAreIndependent() {
    let first = send(0, sector: 1, [.init(Self.data, 512, isWritable: true)])
    let second = send(0, sector: 2, [.init(Self.data + 512, 512, isWritable: true)], queue: 1)
    disk.complete(1)
    #expect(driver.queues[1].takeUsed().map(\.head) == [second] && driver.queues[0].takeUsed().isEmpty)
    disk.complete(0)
    #expect(driver.queues[0].takeUsed().map(\.head) == [first])
  }

  @Test func stateSurvives() throws {
    send(0, [.init(Self.data, 512, isWritable: true)])
    disk.completeAll()
    _ = driver.queues[0].takeUsed()
    let line = RecordedLine(clock: platform.clock)
    let copy = platform.start(
      VirtioMMIO(VirtioBlock(disk, serial: "disk-one", queueCount: 2), interrupt: line.line))
    try transfer(from: driver.device, to: copy)
    #expect(line.level && copy.peek(0x70, size: 4) == 15)
    putHeader(0, sector: 6)
    driver.queues[0].offer([
      .init(Self.header, 16), .init(Self.data, 512, isWritable: true), .init(Self.status, 1, isWritable: true),
    ])
    copy.poke(0x50, 0, size: 4)
    disk.completeAll()
    #expect(driver.queues[0].takeUsed().count == 1 && driver.queues[0].load(Self.data, as: UInt32.self) == 6)
  }
}
