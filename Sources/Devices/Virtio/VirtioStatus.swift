/// Bits of the device status (VIRTIO 1.2, 2.1).
enum VirtioStatus {
  static let driverIsReady: UInt8 = 1 << 2
  static let featuresAreAccepted: UInt8 = 1 << 3
  /// The device has met something that it cannot go on from: the driver has to reset it.
  static let needsReset: UInt8 = 1 << 6
}
