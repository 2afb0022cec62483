import Machine

/// A device that sits on a PCI bus: beside its regions it has a configuration space.
public protocol PCIFunction: Device {
  /// Its registers and interrupts. The function resets, saves and restores them with the rest of its state.
  var pci: PCIEndpoint { get }
}
