/// Why a virtio device interrupts.
enum VirtioInterrupt {
  /// A queue has something for the driver. The vector is an entry in the table of messages.
  case queue(vector: UInt16)
  /// The configuration structure or the status has changed.
  case configuration

  /// Its bit of the interrupt status (VIRTIO 1.2, 4.1.4.5 and 4.2.2).
  var statusBit: UInt8 {
    switch self {
    case .queue: 1 << 0
    case .configuration: 1 << 1
    }
  }
}
