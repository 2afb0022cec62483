import Machine

/// A device that sits on a PCI bus: beside its regions it has a configuration space.
///
/// Configuration accesses reach a function one byte at a time, lowest first, after the bus has checked that it is there.
public protocol PCIFunction: Device {
  func readConfiguration(_ offset: UInt8) -> UInt8
  func writeConfiguration(_ offset: UInt8, _ value: UInt8)
}
