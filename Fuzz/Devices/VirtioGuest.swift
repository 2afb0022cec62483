import Devices
import Machine
import TestSupport

/// A driver of a virtio device, an honest one or not.
final class VirtioGuest {
  private let bench: DeviceBench
  let device: any Device
  private let isPCI: Bool
  private let queueCount: Int
  /// Where each queue's areas are, and how many descriptors they have.
  private var queues: [(base: UInt64, size: Int, next: UInt16)] = []

  private static let base: UInt64 = 0x1_0000
  private static let spacing: UInt64 = 0x4000
  private static let buffers: UInt64 = 0x4_0000

  init(_ bench: DeviceBench, _ device: any Device, isPCI: Bool, queueCount: Int) {
    self.bench = bench
    self.device = device
    self.isPCI = isPCI
    self.queueCount = queueCount
  }

  private enum Register {
    case status, word, accept, queue, size, enable, descriptors, available, used
  }

  private func set(_ register: Register, _ value: UInt64) {
    let (offset, size): (UInt64, Int)
    if isPCI {
      (offset, size) =
        switch register {
        case .status: (20, 1)
        case .word: (8, 4)
        case .accept: (12, 4)
        case .queue: (22, 2)
        case .size: (24, 2)
        case .enable: (28, 2)
        case .descriptors: (32, 8)
        case .available: (40, 8)
        case .used: (48, 8)
        }
    } else {
      size = 4
      offset =
        switch register {
        case .status: 0x70
        case .word: 0x24
        case .accept: 0x20
        case .queue: 0x30
        case .size: 0x38
        case .enable: 0x44
        case .descriptors: 0x80
        case .available: 0x90
        case .used: 0xa0
        }
    }
    device.write(region: isPCI ? 1 : 0, offset: offset, size: size, value: value)
    guard !isPCI, offset >= 0x80 else { return }
    device.write(region: 0, offset: offset + 4, size: 4, value: value >> 32)
  }

  func notify(_ queue: Int) {
    if isPCI {
      device.write(region: 1, offset: 0x3000 + 4 * UInt64(queue), size: 4, value: UInt64(queue))
    } else {
      device.write(region: 0, offset: 0x50, size: 4, value: UInt64(queue))
    }
  }

  /// The device has met something that it cannot go on from (VIRTIO 1.2, 2.1).
  var needsReset: Bool {
    device.read(region: isPCI ? 1 : 0, offset: isPCI ? 20 : 0x70, size: isPCI ? 1 : 4) & 0x40 != 0
  }

  /// Resets the device and sets it up; if `isWild`, not always as an honest driver does.
  func start(isWild: Bool) {
    let isWild = isWild && bench.random.oneIn(3)
    set(.status, 0)
    set(.status, 3)
    // The standard, and the event index or indirect descriptors at times.
    let features = UInt64(bench.random.below(4)) << 28 | (isWild ? bench.random.next() : 0)
    for (word, value) in [(UInt64(0), features & 0xffff_ffff), (1, isWild && bench.random.oneIn(8) ? 0 : 1)] {
      set(.word, word)
      set(.accept, value)
    }
    set(.status, 11)
    queues = []
    for number in 0..<queueCount {
      let base = Self.base + Self.spacing * UInt64(number)
      _ = bench.memory.fill(.init(base), count: Self.spacing, with: 0)
      let size = isWild ? bench.random.pick([1, 2, 8, 64, 128, 16, 16, 3, 0, 65535]) : 16
      queues.append((base, min(max(size, 1), 128), 0))
      set(.queue, UInt64(number))
      set(.size, UInt64(size))
      let isOff = isWild && bench.random.oneIn(10)
      set(.descriptors, isOff ? bench.address() : base)
      set(.available, isOff ? bench.address() : base + 0x1000)
      set(.used, isOff ? bench.address() : base + 0x2000)
      set(.enable, 1)
    }
    set(.status, 15)
  }

  private func describe(_ table: UInt64, _ index: Int, _ address: UInt64, _ count: UInt64, _ flags: UInt16, _ next: Int)
  {
    let entry = table + 16 * UInt64(index)
    bench.store(address, at: entry)
    bench.store(UInt32(truncatingIfNeeded: count), at: entry + 8)
    bench.store(flags, at: entry + 12)
    bench.store(UInt16(truncatingIfNeeded: next), at: entry + 14)
  }

  private func offer(_ queue: Int, head: UInt16, index: UInt16? = nil) {
    let ring = queues[queue].base + 0x1000
    bench.store(head, at: ring + 4 + 2 * UInt64(Int(queues[queue].next) % queues[queue].size))
    queues[queue].next &+= 1
    bench.store(index ?? queues[queue].next, at: ring + 2)
  }

  /// Hands over a chain, which one time in a few no honest driver makes.
  func offerAnything() {
    let queue = bench.random.below(queueCount)
    let (base, size, _) = queues[queue]
    let isHonest = !bench.random.oneIn(4)
    let header = Self.buffers + UInt64(bench.random.below(8)) * 0x40
    // What disks take for a request: type, and sector.
    let type = bench.random.pick([0, 0, 1, 1, 4, 8, 11, 13, 99])
    bench.store(UInt32(type), at: header)
    bench.store(bench.random.oneIn(6) ? bench.random.next() : UInt64(bench.random.below(2100)), at: header + 8)
    let head = bench.random.below(size)
    var (index, table) = (head, base)
    let length = isHonest ? min(3, size) : bench.random.oneIn(4) ? size + 2 : 1 + bench.random.below(5)
    for number in 0..<length {
      let isLast = number == length - 1
      var next = (index + 1) % size
      // The middle goes to the device or comes from it, the end is for its answer.
      var flags: UInt16 = (isLast ? 0 : 1) | (isLast || number > 0 && type != 1 && type < 11 ? 2 : 0)
      var (address, count) = number == 0 ? (header, 16) : isLast ? (header + 0x30, 1) : (bench.address(), bench.count())
      if isHonest, number > 0, !isLast { address = Self.buffers + 0x4000 &+ address % 0x8000 & ~0x1ff }
      if isHonest, number > 0, !isLast { count = UInt64(1 + bench.random.below(16)) << 9 }
      if !isHonest {
        if bench.random.oneIn(12) { flags ^= 1 }
        if bench.random.oneIn(8) { flags ^= 2 }
        if bench.random.oneIn(20) { flags = UInt16(truncatingIfNeeded: bench.random.next()) }
        if bench.random.oneIn(12) { next = bench.random.below(70_000) }
        if bench.random.oneIn(8) { (address, count) = (bench.address(), bench.count()) }
      }
      if table == base, bench.random.oneIn(isHonest ? 20 : 8) {
        // The chain goes on in a table of its own.
        let indirect = Self.buffers + 0x1000
        let entries =
          isHonest ? UInt64(size) : bench.random.oneIn(3) ? bench.count() / 16 : UInt64(bench.random.below(20))
        describe(base, index, indirect, 16 * entries, bench.random.oneIn(10) && !isHonest ? 5 : 4, 0)
        table = indirect
        (index, next) = (0, 1)
      }
      describe(table, index, address, count, flags, next)
      index = next % size
    }
    offer(
      queue, head: !isHonest && bench.random.oneIn(10) ? .max : UInt16(head),
      index: !isHonest && bench.random.oneIn(10) ? UInt16(truncatingIfNeeded: bench.random.next()) : nil)
    if !bench.random.oneIn(5) { notify(queue) }
  }

  /// An honest driver reads a sector of a disk through the first queue; false: it does not get it.
  func readsSector(_ sector: UInt64) -> Bool {
    let header = Self.buffers
    bench.store(UInt64(0), at: header)
    bench.store(sector, at: header + 8)
    let (data, status) = (Self.buffers + 0x2000, Self.buffers + 0x3000)
    _ = bench.memory.fill(.init(data), count: 512, with: 0xcc)
    bench.store(UInt8(0xff), at: status)
    describe(queues[0].base, 0, header, 16, 1, 1)
    describe(queues[0].base, 1, data, 512, 3, 2)
    describe(queues[0].base, 2, status, 1, 2, 0)
    offer(0, head: 0)
    notify(0)
    bench.disk.completeAll()
    return bench.load(queues[0].base + 0x2002, as: UInt16.self) == 1 && bench.load(status, as: UInt8.self) == 0
      && bench.holds(sector: Int(sector), at: data)
  }

  /// An honest driver hands over an empty page of the first queue; false: it does not come back, where it should.
  func takesBuffer(_ queue: Int, isWritable: Bool) -> Bool {
    _ = bench.memory.fill(.init(Self.buffers), count: 4096, with: 0)
    describe(queues[queue].base, 0, Self.buffers, 64, isWritable ? 2 : 0, 0)
    offer(queue, head: 0)
    notify(queue)
    return bench.load(queues[queue].base + 0x2002, as: UInt16.self) == 1
  }
}
