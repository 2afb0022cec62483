import Machine
import TestSupport
import Testing

@testable import Devices

@Suite struct NVMeTests {
  private let platform: FakePlatform
  private let disk: FakeBlockBackend
  private let device: NVMeController

  private static let submission: [UInt64] = [0x1_0000, 0x1_2000]
  private static let completion: [UInt64] = [0x1_1000, 0x1_3000]
  private static let data: UInt64 = 0x2_0000
  private static let size: UInt32 = 8

  /// Where a driver stands in its queues.
  private final class Position {
    var tail: UInt32 = 0
    var head: UInt32 = 0
    var phase: UInt16 = 1
    var command: UInt16 = 0
  }

  private let positions = [Position(), Position()]

  init() throws {
    platform = try FakePlatform()
    disk = FakeBlockBackend(size: 1 << 20, memory: platform.memory)
    device = platform.start(NVMeController(disk, serial: "nvme-one", queueCount: 2))
    device.pci.write(4, 6)
    switchOn()
  }

  private func set(_ register: UInt64, _ value: UInt64, size: Int = 4) {
    device.poke(register, value, size: size, region: 1)
  }

  private func value(_ register: UInt64, size: Int = 4) -> UInt64 { device.peek(register, size: size, region: 1) }

  private func switchOn() {
    for queue in 0...1 {
      _ = platform.memory.fill(.init(Self.submission[queue]), count: 0x2000, with: 0)
      (positions[queue].tail, positions[queue].head, positions[queue].phase) = (0, 0, 1)
    }
    set(0x24, UInt64(Self.size - 1) << 16 | UInt64(Self.size - 1))
    set(0x28, Self.submission[0], size: 8)
    set(0x30, Self.completion[0], size: 8)
    set(0x14, 0x46_0001)
  }

  /// Writes a command and rings.
  @discardableResult
  private func send(
    _ opcode: UInt8, queue: Int = 0, namespace: UInt32 = 1, page1: UInt64 = 0, page2: UInt64 = 0, _ words: [UInt32] = []
  ) -> UInt16 {
    let position = positions[queue]
    position.command &+= 1
    let entry = Self.submission[queue] + 64 * UInt64(position.tail)
    _ = platform.memory.fill(.init(entry), count: 64, with: 0)
    store(UInt32(opcode) | UInt32(position.command) << 16, at: entry)
    store(namespace, at: entry + 4)
    store(page1, at: entry + 24)
    store(page2, at: entry + 32)
    for (index, word) in words.enumerated() { store(word, at: entry + 40 + 4 * UInt64(index)) }
    position.tail = (position.tail + 1) % Self.size
    set(0x1000 + UInt64(queue) * 8, UInt64(position.tail))
    return position.command
  }

  /// The next answer: command, status and result; nil: there is none.
  private func answer(_ queue: Int = 0) -> (command: UInt16, status: UInt16, result: UInt32)? {
    let position = positions[queue]
    let entry = Self.completion[queue] + 16 * UInt64(position.head)
    let status: UInt16 = load(entry + 14)
    guard status & 1 == position.phase else { return nil }
    position.head = (position.head + 1) % Self.size
    if position.head == 0 { position.phase ^= 1 }
    set(0x1004 + UInt64(queue) * 8, UInt64(position.head))
    return (load(entry + 12), status >> 1, load(entry))
  }

  private func store<T: BitwiseCopyable>(_ value: T, at address: UInt64) {
    #expect(platform.memory.store(value, at: .init(address)))
  }

  private func load<T: BitwiseCopyable>(_ address: UInt64, as type: T.Type = T.self) -> T {
    platform.memory.load(.init(address), as: type)!
  }

  private func makeQueues() {
    send(0x05, page1: Self.completion[1], [(Self.size - 1) << 16 | 1, 1 << 16 | 3])
    #expect(answer()?.status == 0)
    send(0x01, page1: Self.submission[1], [(Self.size - 1) << 16 | 1, 1 << 16 | 1])
    #expect(answer()?.status == 0)
  }

  @Test func identifies() {
    #expect(value(0x1c) == 1 && value(0x08) == 0x0001_0400 && value(0, size: 8) & 0xffff == 1023)
    send(0x06, namespace: 0, page1: Self.data, [1])
    #expect(answer()?.status == 0)
    let serial = (0..<8).map { load(Self.data + 4 + UInt64($0), as: UInt8.self) }
    #expect(serial == Array("nvme-one".utf8))
    send(0x06, page1: Self.data + 0x800, page2: Self.data + 0x3000, [0])
    #expect(answer()?.status == 0)
    #expect(load(Self.data + 0x800, as: UInt64.self) == 2048 && load(Self.data + 0x800 + 130, as: UInt8.self) == 9)
    send(0x06, namespace: 5, page1: Self.data, [0])
    #expect(answer()?.status == NVMeStatus.invalidNamespace.rawValue)
    send(0x09, [7, 0x000f_000f])
    #expect(answer()?.result == 0x0001_0001)
    send(0x02, page1: Self.data, [2 | 127 << 16])
    #expect(answer()?.status == 0 && load(Self.data + 1, as: UInt16.self) == 300)
  }

  @Test func readsAndWrites() {
    makeQueues()
    let command = send(0x02, queue: 1, page1: Self.data, [5, 0, 1])
    #expect(answer(1) == nil)
    disk.completeAll()
    let first = answer(1)
    #expect(first?.command == command && first?.status == 0)
    #expect(load(Self.data, as: UInt32.self) == 5 && load(Self.data + 512, as: UInt32.self) == 6)
    // A write of 40 sectors from an offset in a page: a list of pages.
    for sector in 0..<UInt64(40) { store(UInt64(0xaa00) + sector, at: Self.data + 0x600 + 512 * sector) }
    // The list's first page has room for one entry and the way to the next page.
    store(Self.data + 0x1000, at: 0x3_0ff0)
    store(UInt64(0x3_2000), at: 0x3_0ff8)
    for page in 0..<UInt64(4) { store(Self.data + 0x1000 * (page + 2), at: 0x3_2000 + 8 * page) }
    send(0x01, queue: 1, page1: Self.data + 0x600, page2: 0x3_0ff0, [100, 0, 39 | 1 << 30])
    disk.completeAll()
    #expect(answer(1)?.status == 0)
    #expect(disk.requests.last?.operation == .flush)
    for sector in 0..<40 { #expect(disk.contents[(100 + sector) * 512] == UInt8(sector)) }
    for sector in 0..<40 { #expect(disk.contents[(100 + sector) * 512 + 1] == 0xaa) }
  }

  @Test func zeroesAndDiscards() {
    makeQueues()
    send(0x08, queue: 1, [7, 0, 1 | 1 << 25])
    disk.completeAll()
    #expect(answer(1)?.status == 0 && disk.requests.last?.operation == .writeZeroes(mayUnmap: true))
    #expect(disk.contents[7 * 512] == 0 && disk.contents[9 * 512] == 9)
    for (index, range) in [(3, 2), (9, 4)].enumerated() {
      store(UInt32(range.1), at: Self.data + 16 * UInt64(index) + 4)
      store(UInt64(range.0), at: Self.data + 16 * UInt64(index) + 8)
    }
    send(0x09, queue: 1, page1: Self.data, [1, 4])
    disk.completeAll()
    #expect(answer(1)?.status == 0)
    let offsets: [UInt64] = [1536, 4608]
    #expect(disk.requests.suffix(2).map(\.offset) == offsets)
    send(0x00, queue: 1, namespace: .max)
    disk.completeAll()
    #expect(answer(1)?.status == 0 && disk.requests.last?.operation == .flush)
  }

  @Test func badCommandsFail() {
    makeQueues()
    let cases: [(NVMeStatus, UInt8, UInt32, UInt64, UInt64, [UInt32])] = [
      (.outOfRange, 0x02, 1, Self.data, 0, [2048, 0, 0]), (.outOfRange, 0x02, 1, Self.data, 0, [.max, .max, 0]),
      (.dataTransferError, 0x02, 1, 0xc000_0000, 0, [0, 0, 0]),
      (.dataTransferError, 0x02, 1, 0xffff_ffff_ffff_f000, 0, [0, 0, 0]),
      (.invalidPageOffset, 0x02, 1, Self.data, Self.data + 8, [0, 0, 15]),
      (.invalidPageOffset, 0x02, 1, Self.data + 1, 0, [0, 0, 0]),
      (.dataTransferError, 0x02, 1, Self.data, 0xffff_ffff_ffff_fff8, [0, 0, 63]),
      (.invalidField, 0x02, 1, Self.data, Self.data, [0, 0, 1099]), (.invalidNamespace, 0x02, 2, Self.data, 0, []),
      (.invalidOpcode, 0x7f, 1, 0, 0, []), (.outOfRange, 0x08, 1, 0, 0, [2047, 0, 1]),
    ]
    for (status, opcode, namespace, page1, page2, words) in cases {
      send(opcode, queue: 1, namespace: namespace, page1: page1, page2: page2, words)
      #expect(answer(1)?.status == status.rawValue, "\(status)")
    }
    #expect(disk.pendingCount == 0)
    disk.failure = { _ in .failed }
    send(0x02, queue: 1, page1: Self.data, [0, 0, 0])
    disk.completeAll()
    #expect(answer(1)?.status == NVMeStatus.unrecoveredReadError.rawValue)
  }

  /// A driver that takes no answers gets the rest when it does, and nothing is lost.
  @Test func answersWaitForRoom() {
    makeQueues()
    for _ in 0..<3 {
      for _ in 0..<4 { send(0x02, queue: 1, page1: Self.data, [0, 0, 0]) }
      disk.completeAll()
    }
    var count = 0
    while answer(1) != nil { count += 1 }
    #expect(count == 12)
  }

  @Test func eventRequestsWait() {
    for _ in 0..<4 { send(0x0c) }
    #expect(answer() == nil)
    send(0x0c)
    #expect(answer()?.status == NVMeStatus.tooManyEventRequests.rawValue)
  }

  @Test func switchedOffWhileBusy() {
    makeQueues()
    send(0x02, queue: 1, page1: Self.data, [5, 0, 0])
    set(0x14, 0x46_0000)
    #expect(value(0x1c) == 1)
    disk.completeAll()
    #expect(value(0x1c) == 0)
    switchOn()
    #expect(value(0x1c) == 1)
    makeQueues()
    #expect(answer(1) == nil)
    // A queue that goes with a command under way, and comes again.
    send(0x02, queue: 1, page1: Self.data, [5, 0, 0])
    send(0x00, [1])
    #expect(answer()?.status == 0)
    positions[1].tail = 0
    send(0x01, page1: Self.submission[1], [(Self.size - 1) << 16 | 1, 1 << 16 | 1])
    #expect(answer()?.status == 0)
    disk.completeAll()
    #expect(answer(1) == nil)
    set(0x14, 0x46_4001)
    #expect(value(0x1c) == 9)
  }

  @Test func queuesOutOfRAMAreFatal() {
    set(0x14, 0)
    set(0x28, 0xc000_0000, size: 8)
    set(0x14, 0x46_0001)
    send(0x06, [1])
    #expect(value(0x1c) & 2 != 0)
    switchOn()
    set(0x14, 0)
    switchOn()
    #expect(value(0x1c) == 1)
  }

  @Test func stateSurvives() throws {
    makeQueues()
    for _ in 0..<9 {
      send(0x02, queue: 1, page1: Self.data, [0, 0, 0])
      disk.completeAll()
    }
    let copy = platform.start(NVMeController(disk, serial: "nvme-one", queueCount: 2))
    try transfer(from: device, to: copy)
    #expect(copy.save() == device.save())
  }

  @Test func randomAccessesAreWithstood() {
    device.withstand(30_000, seed: 17, offsets: 0x1040)
    var random = SeededRandom(seed: 18)
    for _ in 0..<300 {
      set(0x14, 0)
      switchOn()
      if value(0x1c) == 1 { makeQueues() }
      for _ in 0..<20 {
        let queue = Int.random(in: 0...1, using: &random)
        let address = [Self.data, 0x3_0000, random.next(), 0x3_0ff8].randomElement(using: &random)!
        send(
          UInt8.random(in: 0...13, using: &random), queue: queue, namespace: UInt32.random(in: 0...2, using: &random),
          page1: address, page2: [Self.data, random.next(), 0x3_0ff8].randomElement(using: &random)!,
          (0..<4).map { _ in
            Bool.random(using: &random)
              ? UInt32.random(in: 0...9, using: &random) : UInt32(truncatingIfNeeded: random.next())
          })
        disk.completeAll()
      }
      disk.completeAll()
    }
  }
}
