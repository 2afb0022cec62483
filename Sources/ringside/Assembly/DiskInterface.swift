import Devices

/// The catalogue of disk controllers. A new one is a case here and a line in `MachineBuilder.addDisks`.
enum DiskInterface: String, CaseIterable, Sendable {
  /// The chip set's two channels, two drives each.
  case ide
  case ahci
  case virtio
  case nvme

  /// Disks that one controller takes; nil: each has its own.
  var limit: Int? {
    switch self {
    case .ide: 4
    case .ahci: AHCIController.portCount
    case .virtio, .nvme: nil
    }
  }
}
