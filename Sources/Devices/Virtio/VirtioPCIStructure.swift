/// The structures through which a driver talks to a virtio device on PCI, and where they are in its memory region
/// (VIRTIO 1.2, 4.1.4). Each has a page, so that a guest can hand one to somebody without the others.
enum VirtioPCIStructure: UInt8, CaseIterable {
  case common = 1
  case notification = 2
  case interruptStatus = 3
  case device = 4

  static let pageSize: UInt64 = 0x1000
  /// Bytes of the memory region.
  static let regionSize: UInt64 = 4 * pageSize
  /// What a queue's number is multiplied with to get its place in the notification structure.
  static let notificationMultiplier: UInt32 = 4

  var offset: UInt64 {
    switch self {
    case .common: 0
    case .interruptStatus: Self.pageSize
    case .device: 2 * Self.pageSize
    case .notification: 3 * Self.pageSize
    }
  }

  /// The structure at an offset of the region, and the offset in it.
  static func at(_ offset: UInt64) -> (structure: Self, offset: UInt64)? {
    allCases.first { $0.offset == offset & ~(pageSize - 1) }.map { ($0, offset & (pageSize - 1)) }
  }
}
