/// Feature bits that do not belong to one kind of device (VIRTIO 1.2, chapter 6).
enum VirtioFeature {
  static let indirectDescriptors: UInt64 = 1 << 28
  static let eventIndex: UInt64 = 1 << 29
  /// The driver knows the standard, not what came before it.
  static let version1: UInt64 = 1 << 32

  /// What every device here offers.
  static let common = indirectDescriptors | eventIndex | version1
}
