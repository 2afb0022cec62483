/// Feature bits of disks (VIRTIO 1.2, 5.2.3).
enum VirtioBlockFeature {
  static let segmentLimit: UInt64 = 1 << 2
  static let readOnly: UInt64 = 1 << 5
  static let blockSize: UInt64 = 1 << 6
  static let flush: UInt64 = 1 << 9
  static let topology: UInt64 = 1 << 10
  static let writeCache: UInt64 = 1 << 11
  static let severalQueues: UInt64 = 1 << 12
  static let discard: UInt64 = 1 << 13
  static let writeZeroes: UInt64 = 1 << 14
}
