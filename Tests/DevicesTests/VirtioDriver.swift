import Machine
import TestSupport

@testable import Devices

/// A driver of a virtio device behind the memory-mapped transport, as far as the tests need one.
struct VirtioDriver<Model: VirtioModel> {
  let device: VirtioMMIO<Model>
  let platform: FakePlatform
  let line: RecordedLine
  var queues: [GuestVirtqueue] = []

  /// Brings the device up with all features but `without`, and queues of `size` descriptors from 64 KiB on.
  init(_ model: Model, on platform: FakePlatform, size: Int = 8, without: UInt64 = 0) {
    self.platform = platform
    line = RecordedLine(clock: platform.clock)
    device = platform.start(VirtioMMIO(model, interrupt: line.line))
    start(size: size, without: without)
  }

  mutating func start(size: Int = 8, without: UInt64 = 0) {
    set(0x70, 0)
    set(0x70, 3)
    for word in 0..<UInt64(2) {
      set(0x14, word)
      let offered = value(0x10)
      set(0x24, word)
      set(0x20, offered & ~(without >> (32 * word)) & 0xffff_ffff)
    }
    set(0x70, 11)
    queues = []
    for number in device.model.queueSizes.indices {
      let queue = GuestVirtqueue(size: size, at: 0x1_0000 + 0x4000 * UInt64(number), in: platform.memory)
      _ = platform.memory.fill(.init(queue.descriptors), count: 0x4000, with: 0)
      queues.append(queue)
      set(0x30, UInt64(number))
      set(0x38, UInt64(size))
      for (register, address) in [(0x80, queue.descriptors), (0x90, queue.available), (0xa0, queue.used)] {
        set(UInt64(register), address & 0xffff_ffff)
        set(UInt64(register) + 4, address >> 32)
      }
      set(0x44, 1)
    }
    set(0x70, 15)
  }

  func value(_ register: UInt64) -> UInt64 { device.peek(register, size: 4) }
  func set(_ register: UInt64, _ value: UInt64) { device.poke(register, value, size: 4) }
  func notify(_ queue: Int = 0) { set(0x50, UInt64(queue)) }

  var status: UInt64 { value(0x70) }
  var needsReset: Bool { status & 0x40 != 0 }

  /// Takes the interrupt: its causes.
  func acknowledge() -> UInt64 {
    let causes = value(0x60)
    set(0x64, causes)
    return causes
  }
}
