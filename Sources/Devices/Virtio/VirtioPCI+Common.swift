/// The common configuration structure (VIRTIO 1.2, 4.1.4.3).
extension VirtioPCI {
  private var selected: Virtqueue? {
    core.queues.indices.contains(Int(registers.selectedQueue)) ? core.queues[Int(registers.selectedQueue)] : nil
  }

  func readCommon(_ offset: Int, size: Int) -> UInt64 {
    var bytes = [UInt8](repeating: 0, count: 60)
    bytes.put(registers.offeredWord, at: 0)
    bytes.put(core.offered(word: registers.offeredWord), at: 4)
    bytes.put(registers.acceptedWord, at: 8)
    bytes.put(core.accepted(word: registers.acceptedWord), at: 12)
    bytes.put(registers.configurationVector, at: 16)
    bytes.put(UInt16(core.queues.count), at: 18)
    bytes[20] = core.status
    bytes[21] = core.generation
    bytes.put(registers.selectedQueue, at: 22)
    if let queue = selected {
      bytes.put(queue.state.size, at: 24)
      bytes.put(queue.state.vector, at: 26)
      bytes.put(UInt16(queue.state.isEnabled ? 1 : 0), at: 28)
      bytes.put(UInt16(queue.number), at: 30)
      bytes.put(queue.state.descriptors, at: 32)
      bytes.put(queue.state.available, at: 40)
      bytes.put(queue.state.used, at: 48)
    }
    return bytes.littleEndian(at: offset, size: size)
  }

  func writeCommon(_ offset: Int, size: Int, value: UInt64) {
    switch (offset, size) {
    case (0, 4): registers.offeredWord = UInt32(truncatingIfNeeded: value)
    case (8, 4): registers.acceptedWord = UInt32(truncatingIfNeeded: value)
    case (12, 4): core.accept(UInt32(truncatingIfNeeded: value), word: registers.acceptedWord)
    case (16, 2): registers.configurationVector = vector(value)
    case (20, 1): if value == 0 { resetDevice() } else { core.setStatus(UInt8(truncatingIfNeeded: value)) }
    case (22, 2): registers.selectedQueue = UInt16(truncatingIfNeeded: value)
    case (24, 2): selected?.configure { $0.size = UInt16(truncatingIfNeeded: value) }
    case (26, 2): selected?.setVector(vector(value))
    case (28, 2): if value == 1 { core.enable(Int(registers.selectedQueue)) }
    case (32..<56, 4), (32..<56, 8): writeAddress(offset, size: size, value: value)
    default: break
    }
  }

  /// The three areas' addresses, whole or by halves.
  private func writeAddress(_ offset: Int, size: Int, value: UInt64) {
    guard offset % size == 0 else { return }
    selected?.configure { state in
      func merge(_ old: UInt64) -> UInt64 {
        if size == 8 { return value }
        let shift = UInt64(offset & 4) * 8
        return old & ~(0xffff_ffff << shift) | (value & 0xffff_ffff) << shift
      }
      switch offset & ~7 {
      case 32: state.descriptors = merge(state.descriptors)
      case 40: state.available = merge(state.available)
      default: state.used = merge(state.used)
      }
    }
  }
}
