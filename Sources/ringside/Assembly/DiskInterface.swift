/// The catalogue of disk controllers. A new one is a case here and a line in `MachineBuilder.addDisks`.
enum DiskInterface: String, CaseIterable, Sendable {
  /// The chip set's two channels, two drives each.
  case ide
  case ahci
  case virtio
  case nvme
}
