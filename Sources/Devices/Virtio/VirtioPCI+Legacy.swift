/// Registers for drivers from before the standard (VIRTIO 1.2, 4.1.4.10): one range of ports, features of 32 bits, and
/// queues whose three areas follow each other from one page on.
extension VirtioPCI {
  private static var pageShift: UInt64 { 12 }

  /// Two vectors stand before the configuration structure while messages are switched on.
  private var configurationOffset: UInt64 { pci.usesMessageTable ? 24 : 20 }

  private var selected: Virtqueue? {
    core.queues.indices.contains(Int(registers.selectedQueue)) ? core.queues[Int(registers.selectedQueue)] : nil
  }

  func readLegacy(offset: UInt64, size: Int) -> UInt64 {
    if offset >= configurationOffset {
      return readConfiguration(Int(truncatingIfNeeded: offset - configurationOffset), size: size)
    }
    switch offset {
    case 0: return UInt64(core.offered(word: 0))
    case 4: return UInt64(core.accepted(word: 0))
    case 8: return (selected?.state.isEnabled == true ? selected?.state.descriptors ?? 0 : 0) >> Self.pageShift
    case 12: return UInt64(selected?.maximumSize ?? 0)
    case 14: return UInt64(registers.selectedQueue)
    case 18: return UInt64(core.status)
    case 19: return UInt64(takeInterruptStatus())
    case 20: return UInt64(registers.configurationVector)
    case 22: return UInt64(selected?.state.vector ?? .max)
    default: return 0
    }
  }

  func writeLegacy(offset: UInt64, size: Int, value: UInt64) {
    if offset >= configurationOffset {
      return writeConfiguration(Int(truncatingIfNeeded: offset - configurationOffset), size: size, value: value)
    }
    switch offset {
    case 4: core.accept(UInt32(truncatingIfNeeded: value), word: 0)
    case 8: placeQueue(value & 0xffff_ffff)
    case 14: registers.selectedQueue = UInt16(truncatingIfNeeded: value)
    case 16: notify(Int(value & 0xffff))
    case 18: if value & 0xff == 0 { resetDevice() } else { core.setStatus(UInt8(truncatingIfNeeded: value)) }
    case 20: registers.configurationVector = vector(value)
    case 22: selected?.setVector(vector(value))
    default: break
    }
  }

  /// A page number puts the queue there; zero takes it away.
  private func placeQueue(_ page: UInt64) {
    guard let queue = selected else { return }
    guard page != 0 else { return queue.disable() }
    let size = UInt64(queue.maximumSize)
    let descriptors = page << Self.pageShift
    let available = descriptors + 16 * size
    let used = (available + 6 + 2 * size + 0xfff) & ~0xfff
    queue.configure {
      $0.descriptors = descriptors
      $0.available = available
      $0.used = used
    }
    core.enable(queue.number)
  }
}
