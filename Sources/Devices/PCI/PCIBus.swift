/// A PCI bus: the functions that answer configuration accesses on it.
///
/// Slots are filled before the machine runs. What an empty slot reads is all ones, the value of a cycle that no target
/// claims, and writes to it are lost.
public final class PCIBus {
  private var functions: [PCIAddress: any PCIFunction] = [:]

  public init() {}

  /// Plugs a function in. A device needs function 0, and marks its configuration space as multifunction if it has more.
  public func insert(_ function: any PCIFunction, at address: PCIAddress) {
    precondition(functions[address] == nil, "two functions at PCI address \(address)")
    functions[address] = function
  }

  /// All addresses in use, in ascending order.
  public var addresses: [PCIAddress] { functions.keys.sorted() }

  func read(_ address: PCIAddress, _ offset: UInt8) -> UInt8 {
    functions[address]?.readConfiguration(offset) ?? 0xff
  }

  func write(_ address: PCIAddress, _ offset: UInt8, _ value: UInt8) {
    functions[address]?.writeConfiguration(offset, value)
  }
}
