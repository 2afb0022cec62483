/// How a request ended, as the driver is told (VIRTIO 1.2, 5.2.6).
enum VirtioBlockStatus: UInt8 {
  case success = 0
  case failure = 1
  case unsupported = 2
}
