import Devices
import Machine
import TestSupport

/// A driver of an NVMe controller, an honest one or not.
final class NVMeGuest: DiskControllerGuest {
  private let bench: DeviceBench
  let device: NVMeController
  private var tails: [UInt64] = []

  private static let queues: UInt64 = 0x1_0000
  private static let size: UInt64 = 8
  private static let data: UInt64 = 0x4_0000

  init(_ bench: DeviceBench) {
    self.bench = bench
    device = bench.platform.start(NVMeController(bench.disk, serial: "fuzz", queueCount: 2))
    device.pci.write(4, 6)
  }

  private func set(_ register: UInt64, _ value: UInt64, size: Int = 4) {
    device.write(region: 1, offset: register, size: size, value: value)
  }

  private func submission(_ queue: Int) -> UInt64 { Self.queues + 0x2000 * UInt64(queue) }
  private func completion(_ queue: Int) -> UInt64 { submission(queue) + 0x1000 }

  /// Switches the controller off and on, and has it make two more queues.
  func start() {
    set(0x14, 0)
    bench.settle()
    _ = bench.memory.fill(.init(Self.queues), count: 0x6000, with: 0)
    set(0x24, (Self.size - 1) << 16 | Self.size - 1)
    set(0x28, submission(0), size: 8)
    set(0x30, completion(0), size: 8)
    set(0x14, 0x46_0001)
    tails = [0, 0, 0]
    for queue in 1...2 {
      let sizes = UInt32(Self.size - 1) << 16 | UInt32(queue)
      command(0, 0x05, page1: completion(queue), words: [sizes, 1])
      command(0, 0x01, page1: submission(queue), words: [sizes, UInt32(queue) << 16 | 1])
    }
  }

  /// Writes a command, and rings the doorbell.
  private func command(
    _ queue: Int, _ opcode: UInt8, namespace: UInt32 = 1, page1: UInt64, page2: UInt64 = 0, words: [UInt32],
    flags: UInt8 = 0
  ) {
    let entry = submission(queue) + 64 * tails[queue]
    _ = bench.memory.fill(.init(entry), count: 64, with: 0)
    bench.store(UInt32(opcode) | UInt32(flags) << 8 | UInt32(bench.random.below(9)) << 16, at: entry)
    bench.store(namespace, at: entry + 4)
    bench.store(page1, at: entry + 24)
    bench.store(page2, at: entry + 32)
    for (index, word) in words.enumerated() { bench.store(word, at: entry + 40 + 4 * UInt64(index)) }
    tails[queue] = (tails[queue] + 1) % Self.size
    set(0x1000 + UInt64(queue) * 8, tails[queue])
  }

  /// A command that may be anything.
  func submitAnything() {
    let queue = bench.random.below(3)
    let opcodes: [UInt8] = queue == 0 ? [0, 1, 2, 4, 5, 6, 8, 9, 10, 12] : [0, 1, 1, 2, 2, 4, 8, 9]
    let words = (0..<6).map { _ in
      bench.random.oneIn(3) ? UInt32(truncatingIfNeeded: bench.random.next()) : UInt32(bench.random.below(64))
    }
    // The list of pages may lead anywhere, too.
    for index in 0..<4 { bench.store(bench.address(), at: Self.data + 0x3000 + 8 * UInt64(index)) }
    command(
      queue, bench.random.oneIn(8) ? bench.random.byte() : bench.random.pick(opcodes),
      namespace: bench.random.oneIn(8) ? bench.random.pick([0, 2, ~0]) : 1, page1: bench.address(),
      page2: bench.random.oneIn(2) ? Self.data + 0x3000 : bench.address(), words: words,
      flags: bench.random.oneIn(10) ? bench.random.byte() : 0)
    // It frees entries of the completion queue, mostly.
    if !bench.random.oneIn(4) { set(0x1004 + UInt64(queue) * 8, UInt64(bench.random.below(8))) }
    if bench.random.oneIn(16) { set(0x1000 + UInt64(bench.random.below(40)) * 4, bench.random.next() % 70_000) }
  }

  /// An honest driver reads a sector; false: it does not get it.
  func readsSector(_ sector: UInt32) -> Bool {
    _ = bench.memory.fill(.init(Self.data), count: 512, with: 0xcc)
    command(1, 0x02, page1: Self.data, words: [sector, 0, 0])
    bench.disk.completeAll()
    return bench.load(completion(1) + 14, as: UInt16.self) == 1 && bench.holds(sector: Int(sector), at: Self.data)
  }
}
