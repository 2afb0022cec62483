import Devices
import Machine
import Memory
import TestSupport
import X86

/// A device in a machine of fakes, and what any guest can do to any device.
final class DeviceBench {
  let platform: FakePlatform
  let disk: FakeBlockBackend
  let disc: FakeBlockBackend
  var random: SeededRandom

  static let diskSectors: UInt64 = 2048

  init(seed: UInt64) throws {
    platform = try FakePlatform()
    disk = FakeBlockBackend(size: Self.diskSectors * 512, memory: platform.memory)
    disc = FakeBlockBackend(size: 128 * 2048, memory: platform.memory, isReadOnly: true)
    random = SeededRandom(seed: seed)
  }

  var memory: GuestMemory { platform.memory }

  func store<Value: BitwiseCopyable>(_ value: Value, at address: UInt64) {
    _ = memory.store(value, at: GuestPhysicalAddress(address))
  }

  func load<Value: BitwiseCopyable>(_ address: UInt64, as type: Value.Type = Value.self) -> Value? {
    memory.load(GuestPhysicalAddress(address), as: type)
  }

  /// An address that a guest may give: in RAM, at its end, beyond it, anywhere.
  func address() -> UInt64 {
    switch random.below(12) {
    case 0: memory.size - UInt64(random.below(64))
    case 1: random.next()
    case 2: 0 &- UInt64(random.below(4096))
    case 3: random.pick([memory.size, 0xfee0_0000, 0xb8000, 1 << 32, 1 << 52, 1 << 63])
    default: random.next() % memory.size
    }
  }

  /// A length that a guest may give, in bytes.
  func count() -> UInt64 {
    switch random.below(10) {
    case 0: 0
    case 1: random.next()
    case 2: random.pick([0xffff_ffff, 0x8000_0000, 1 << 20, 513, 1])
    default: UInt64(1 + random.below(16)) << 9
    }
  }

  /// Something in memory changes while the device looks at it.
  func scramble() {
    for _ in 0...random.below(4) {
      store(random.oneIn(3) ? random.next() : address(), at: random.next() % (memory.size - 8) & ~3)
    }
  }

  /// The disks get on with their work, or fail.
  func disturb() {
    let disk = random.oneIn(4) ? disc : disk
    switch random.below(10) {
    case 0: disk.failure = { _ in .failed }
    case 1: disk.failure = { $0.operation == .write ? .noSpace : nil }
    case 2: disk.failure = nil
    default: if disk.pendingCount > 0 { disk.complete(random.below(disk.pendingCount)) }
    }
  }

  /// The disks work, and have done all.
  func settle() {
    disk.failure = nil
    disc.failure = nil
    disk.completeAll()
    disc.completeAll()
  }

  /// A random access to registers, of regions up to `regions` and offsets below `offsets` mostly.
  func access(_ device: any Device, regions: Int, offsets: UInt64) {
    let region = random.below(regions)
    let offset = random.oneIn(64) ? random.next() : random.next() % offsets
    let size = random.pick([1, 2, 4, 8])
    if random.oneIn(2) {
      _ = device.read(region: region, offset: offset, size: size)
    } else {
      let value = random.pick([random.next(), address(), UInt64(random.below(16)), ~0])
      device.write(region: region, offset: offset, size: size, value: value)
    }
  }

  /// The device is saved and restored, as it is with nothing under way.
  func roundTrip(_ device: some Device) throws {
    guard disk.pendingCount + disc.pendingCount == 0 else { return }
    device.restore(try device.storedState())
  }

  /// Whether memory has the disk's sector.
  func holds(sector: Int, at address: UInt64) -> Bool {
    var bytes = [UInt8](repeating: 0, count: 512)
    let isRead = bytes.withUnsafeMutableBytes { memory.read(GuestPhysicalAddress(address), into: $0) }
    return isRead && bytes == Array(disk.contents[sector * 512..<(sector + 1) * 512])
  }
}
