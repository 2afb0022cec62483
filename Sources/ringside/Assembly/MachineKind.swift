/// The catalogue of machines. A new one is a case here, and what assembles it in `makeAssembly`.
enum MachineKind: String, CaseIterable, Sendable {
  /// A PC of the late 1990s: 440FX, PIIX, PCI and everything that an old system looks for.
  case pc
  /// As little as a modern kernel needs: no firmware, no PCI, virtio devices in memory.
  case micro

  /// Where a disk is if nothing is said about it.
  var standardDiskInterface: DiskInterface {
    switch self {
    case .pc: .ide
    case .micro: .virtio
    }
  }

  func has(_ interface: DiskInterface) -> Bool { self == .pc || interface == .virtio }
}
