/// What a driver recognises a kind of device by.
public struct VirtioKind: Sendable {
  /// Catalogue name, for logs and snapshots.
  public let name: String
  /// VIRTIO 1.2, chapter 5.
  public let identifier: UInt16
  /// Device identifier of a PCI function that drivers older than the standard know, too (4.1.2.1).
  public let transitionalIdentifier: UInt16
  /// PCI class, subclass and programming interface.
  public let classCode: UInt32

  public static let block = Self(
    name: "virtio-blk", identifier: 2, transitionalIdentifier: 0x1001, classCode: 0x01_0000)
  public static let console = Self(
    name: "virtio-console", identifier: 3, transitionalIdentifier: 0x1003, classCode: 0x07_8000)
  public static let entropy = Self(
    name: "virtio-rng", identifier: 4, transitionalIdentifier: 0x1005, classCode: 0x00_ff00)
  public static let balloon = Self(
    name: "virtio-balloon", identifier: 5, transitionalIdentifier: 0x1002, classCode: 0x00_ff00)
}
