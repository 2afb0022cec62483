import Devices

/// The disks that firmware can boot from, by the names that it knows them by: Open Firmware's device paths, as QEMU forms
/// them (SeaBIOS, src/boot.c; OVMF, QemuBootOrderLib).
final class BootPaths {
  private static let root = "/pci@i0cf8/"

  private var paths: [(kind: BootDevice, path: String)] = []

  /// Adds a disk, by its path on the PCI bus.
  func add(_ media: DiskArgument.Media, _ path: String) {
    paths.append((media == .cdrom ? .cdrom : .disk, Self.root + path))
  }

  /// Adds a floppy drive.
  func addFloppy(_ path: String) { paths.append((.floppy, Self.root + path)) }

  /// The paths of these kinds, in their order.
  func ordered(_ kinds: [BootDevice]) -> [String] {
    kinds.flatMap { kind in paths.filter { $0.kind == kind }.map(\.path) }
  }

  /// The name of a PCI function that has none of its own.
  static func node(_ function: any PCIFunction, at address: PCIAddress) -> String {
    let identity = function.pci.configuration
    let vendor = String(identity.get(PCIConfigurationSpace.Register.vendor, as: UInt16.self), radix: 16)
    let device = String(identity.get(PCIConfigurationSpace.Register.device, as: UInt16.self), radix: 16)
    return "pci\(vendor),\(device)@\(place(address))"
  }

  /// Where a function is, as it stands behind its name.
  static func place(_ address: PCIAddress) -> String {
    String(address.device, radix: 16) + (address.function == 0 ? "" : ",\(address.function)")
  }
}
