import Machine
import TestSupport
import Testing

@testable import Devices

/// The queue and what all virtio devices share, through a device that only fills room with bytes.
@Suite struct VirtqueueTests {
  private let platform: FakePlatform

  init() throws { platform = try FakePlatform() }

  private static let eventIndex = VirtioFeature.eventIndex

  @Test(arguments: [0, Self.eventIndex]) func chainsComeBack(without: UInt64) {
    let driver = VirtioDriver(VirtioEntropy(), on: platform, without: without)
    #expect(driver.status == 15)
    for round in 0..<20 {
      let head = driver.queues[0].offer([.init(0x8000, 16, isWritable: true), .init(0x9000, 8, isWritable: true)])
      driver.queues[0].setUsedEvent(UInt16(round))
      driver.notify()
      let used = driver.queues[0].takeUsed()
      #expect(used.map(\.head) == [head] && used.map(\.written) == [24])
      #expect(driver.line.level && driver.acknowledge() == 1 && !driver.line.level)
    }
    // What FakeInput gave last.
    let first: UInt8 = driver.queues[0].load(0x8000)
    #expect(driver.queues[0].load(0x9000, as: UInt8.self) == first &+ 16)
  }

  @Test func featuresAreNegotiated() {
    let driver = VirtioDriver(VirtioEntropy(), on: platform)
    driver.set(0x70, 0)
    #expect(driver.status == 0)
    driver.set(0x70, 3)
    // A feature that is not offered; and then none at all, not even the standard.
    driver.set(0x24, 0)
    driver.set(0x20, 1 << 9)
    driver.set(0x24, 1)
    driver.set(0x20, 1)
    driver.set(0x70, 11)
    #expect(driver.status == 3)
    driver.set(0x24, 0)
    driver.set(0x20, 0)
    driver.set(0x24, 1)
    driver.set(0x20, 0)
    driver.set(0x70, 11)
    #expect(driver.status == 3)
    driver.set(0x20, 1)
    driver.set(0x70, 11)
    #expect(driver.status == 11)
  }

  @Test func driverDeclinesInterrupts() {
    let driver = VirtioDriver(VirtioEntropy(), on: platform, without: Self.eventIndex)
    driver.queues[0].setFlags(1)
    driver.queues[0].offer([.init(0x8000, 16, isWritable: true)])
    driver.notify()
    #expect(driver.queues[0].takeUsed().count == 1 && !driver.line.level)
    driver.queues[0].setFlags(0)
    driver.queues[0].offer([.init(0x8000, 16, isWritable: true)])
    driver.notify()
    #expect(driver.line.level)
  }

  @Test func eventIndexHoldsInterruptsBack() {
    let driver = VirtioDriver(VirtioEntropy(), on: platform)
    driver.queues[0].setUsedEvent(2)
    for expected in [false, false, true] {
      driver.queues[0].offer([.init(0x8000, 16, isWritable: true)])
      driver.notify()
      #expect(driver.line.level == expected)
    }
    #expect(driver.queues[0].availableEvent == 3)
  }

  @Test func indirectDescriptors() {
    let driver = VirtioDriver(VirtioEntropy(), on: platform)
    let queue = driver.queues[0]
    for index in 0..<40 {
      queue.describe(
        index, 0x9000 + UInt64(index), 1, flags: index == 39 ? 2 : 3, next: UInt16(index + 1), table: 0xa000)
    }
    queue.describe(5, 0xa000, 40 * 16, flags: 4)
    queue.offer(head: 5)
    driver.notify()
    #expect(queue.takeUsed().map(\.written) == [40] && !driver.needsReset)
  }

  @Test func queueNotInRAMNeedsReset() {
    var driver = VirtioDriver(VirtioEntropy(), on: platform)
    driver.set(0x44, 0)
    driver.set(0x84, 0xffff_ffff)
    driver.set(0x44, 1)
    #expect(driver.needsReset && driver.acknowledge() == 2)
    driver.start()
    #expect(driver.status == 15)
  }

  /// Each breaks one rule. The device says that it needs a reset, gives nothing back, and works again after the reset.
  @Test(arguments: HostileChain.allCases) func hostileChains(_ chain: HostileChain) {
    var driver = VirtioDriver(VirtioEntropy(), on: platform)
    chain.offer(driver.queues[0], ramSize: platform.memory.size)
    driver.notify()
    #expect(driver.needsReset && driver.queues[0].takeUsed().isEmpty)
    #expect(driver.acknowledge() == 2)
    driver.notify()
    #expect(driver.queues[0].takeUsed().isEmpty)
    driver.start()
    driver.queues[0].offer([.init(0x8000, 16, isWritable: true)])
    driver.notify()
    #expect(driver.queues[0].takeUsed().count == 1)
  }

  enum HostileChain: CaseIterable, Sendable {
    case loop, selfLoop, wildHead, wildNext, beyondRAM, wrapsAround, hole, readsBehindWrites, indexJumps, nestedTables
    case tableWithNext, tableTooLong, tableNotInRAM, tableNotWhole, emptyTable, loopInTable, tooManyBytes

    func offer(_ queue: GuestVirtqueue, ramSize: UInt64) {
      switch self {
      case .loop:
        queue.describe(0, 0x8000, 4, flags: 3, next: 1)
        queue.describe(1, 0x8000, 4, flags: 3, next: 0)
      case .selfLoop: queue.describe(0, 0x8000, 4, flags: 3, next: 0)
      case .wildHead: return queue.offer(head: 0x8000)
      case .wildNext: queue.describe(0, 0x8000, 4, flags: 3, next: 8)
      case .beyondRAM: queue.describe(0, ramSize - 4, 8, flags: 2)
      case .wrapsAround: queue.describe(0, 0xffff_ffff_ffff_fffc, 8, flags: 2)
      case .hole: queue.describe(0, 0xc000_0000, 8, flags: 2)
      case .readsBehindWrites:
        queue.describe(0, 0x8000, 4, flags: 3, next: 1)
        queue.describe(1, 0x8000, 4, flags: 0)
      case .indexJumps: return queue.store(UInt16(100), at: queue.available + 2)
      case .nestedTables:
        queue.describe(0, 0xa000, 16, flags: 4)
        queue.describe(0, 0xa000, 16, flags: 4, table: 0xa000)
      case .tableWithNext:
        queue.describe(0, 0xa000, 16, flags: 5, next: 1)
        queue.describe(0, 0x8000, 4, flags: 2, table: 0xa000)
      case .tableTooLong: queue.describe(0, 0xa000, 1025 * 16, flags: 4)
      case .tableNotInRAM: queue.describe(0, ramSize - 16, 32, flags: 4)
      case .tableNotWhole: queue.describe(0, 0xa000, 24, flags: 4)
      case .emptyTable: queue.describe(0, 0xa000, 0, flags: 4)
      case .loopInTable:
        queue.describe(0, 0xa000, 32, flags: 4)
        queue.describe(0, 0x8000, 4, flags: 3, next: 1, table: 0xa000)
        queue.describe(1, 0x8000, 4, flags: 3, next: 0, table: 0xa000)
      case .tooManyBytes: queue.describe(0, 0x8000, .max, flags: 2)
      }
      queue.offer(head: 0)
    }
  }

  @Test func legacyDriverFindsRegistersBehindPorts() throws {
    let bus = PCIBus()
    let device = platform.start(VirtioPCI(VirtioEntropy()))
    bus.insert(device, at: PCIAddress(device: 3))
    device.pci.write(4, 0x05)
    #expect(device.pci.read(2) == 0x05 && device.pci.read(3) == 0x10)
    device.poke(18, 3, region: 2)
    device.poke(4, 0, size: 4, region: 2)
    let size = Int(device.peek(12, size: 2, region: 2))
    let queue = GuestVirtqueue(size: size, at: 0x1_0000, in: platform.memory)
    device.poke(8, 0x10, size: 4, region: 2)
    #expect(device.peek(8, size: 4, region: 2) == 0x10)
    device.poke(18, 7, region: 2)
    queue.offer([.init(0x8000, 16, isWritable: true)])
    device.poke(16, 0, size: 2, region: 2)
    #expect(queue.takeUsed().map(\.written) == [16])
    #expect(device.peek(19, region: 2) == 1 && device.peek(19, region: 2) == 0)
    device.poke(18, 0, region: 2)
    #expect(device.peek(8, size: 4, region: 2) == 0 && device.peek(18, region: 2) == 0)
  }

  @Test func randomAccessesAreWithstood() throws {
    let mapped = platform.start(VirtioMMIO(VirtioBalloon(), interrupt: .unconnected))
    mapped.withstand(30_000, seed: 41, offsets: 0x140)
    let function = platform.start(VirtioPCI(VirtioConsole()))
    function.pci.write(4, 7)
    function.withstand(30_000, seed: 42, offsets: 0x4000)
    var random = SeededRandom(seed: 43)
    for _ in 0..<30_000 {
      let offset = UInt64.random(in: 0..<128, using: &random)
      let size = [1, 2, 4].randomElement(using: &random)!
      if Bool.random(using: &random) {
        function.poke(offset, random.next(), size: size, region: 2)
      } else {
        _ = function.peek(offset, size: size, region: 2)
      }
      function.pci.write(UInt8.random(in: 0x40...0xff, using: &random), UInt8.random(in: 0...255, using: &random))
      _ = function.pci.read(UInt8.random(in: 0x40...0xff, using: &random))
    }
  }

  /// Descriptors and rings of random numbers; the device may say what it wants, but the process goes on.
  @Test func randomQueuesAreWithstood() {
    let disk = FakeBlockBackend(size: 1 << 16, memory: platform.memory)
    var driver = VirtioDriver(VirtioBlock(disk, serial: "x", queueCount: 2), on: platform)
    var random = SeededRandom(seed: 7)
    for _ in 0..<3000 {
      driver.start()
      for queue in driver.queues {
        for index in 0..<8 {
          let address = [0x8000, 0xa000, random.next(), platform.memory.size - 8].randomElement(using: &random)!
          queue.describe(
            index, address, [1, 16, 64, 513, .max].randomElement(using: &random)!,
            flags: UInt16.random(in: 0...7, using: &random), next: UInt16.random(in: 0...9, using: &random))
          queue.describe(
            index, 0x8000, [1, 16, 512].randomElement(using: &random)!, flags: UInt16.random(in: 0...3, using: &random),
            next: UInt16.random(in: 0...8, using: &random), table: 0xa000)
        }
        for _ in 0..<Int.random(in: 1...4, using: &random) {
          queue.offer(head: UInt16.random(in: 0...8, using: &random))
        }
      }
      driver.notify(0)
      driver.notify(1)
      disk.completeAll()
    }
  }
}
