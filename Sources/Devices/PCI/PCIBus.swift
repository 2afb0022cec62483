import Machine

/// A PCI bus: the functions that answer configuration accesses on it, their places on the machine's bus, and their
/// interrupts.
///
/// Slots are filled before the machine runs. What an empty slot reads is all ones, the value of a cycle that no target
/// claims, and writes to it are lost.
public final class PCIBus {
  /// Where the functions' regions go; nil: nowhere.
  private let mapping: (any BusMapping)?
  private let interrupts: PCIInterruptRouter
  private let send: (_ address: UInt64, _ data: UInt32) -> Void
  private var functions: [PCIAddress: any PCIFunction] = [:]

  /// `send` takes message-signalled interrupts.
  public init(
    mapping: (any BusMapping)? = nil, interrupts: PCIInterruptRouter = PCIInterruptRouter(),
    send: @escaping (_ address: UInt64, _ data: UInt32) -> Void = { _, _ in }
  ) {
    self.mapping = mapping
    self.interrupts = interrupts
    self.send = send
  }

  /// Plugs a function in. A device needs function 0, and marks its configuration space as multifunction if it has more.
  public func insert(_ function: any PCIFunction, at address: PCIAddress) {
    precondition(functions[address] == nil, "two functions at PCI address \(address)")
    functions[address] = function
    let pin = Int(function.pci.read(UInt8(PCIConfigurationSpace.Register.interruptPin))) - 1
    function.pci.connect(
      PCISlot(
        place: { [mapping, unowned function] region, placement in
          mapping?.place(function, region: region, at: placement)
        },
        setPin: { [interrupts] level in
          guard pin >= 0 else { return }
          interrupts.set(level, device: address.device, function: address.function, pin: pin)
        },
        send: send))
  }

  /// All addresses in use, in ascending order.
  public var addresses: [PCIAddress] { functions.keys.sorted() }

  /// Function 0 of the first device behind the chip set's that has no function yet; nil where the bus is full.
  public var freeAddress: PCIAddress? {
    (2..<32).first { device in !functions.keys.contains { $0.device == device } }.map { PCIAddress(device: $0) }
  }

  func read(_ address: PCIAddress, _ offset: UInt8) -> UInt8 { functions[address]?.pci.read(offset) ?? 0xff }

  func write(_ address: PCIAddress, _ offset: UInt8, _ value: UInt8) { functions[address]?.pci.write(offset, value) }
}
