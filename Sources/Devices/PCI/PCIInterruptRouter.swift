import Machine

/// The wires of the interrupt pins on a PCI bus.
///
/// Pins A to D of all devices are spread over four wires, each device's turned by one against its neighbour's (PCI Local
/// Bus Specification 3.0, 2.2.6). Each wire leads to an input of the I/O APIC, and through the PIIX3's route registers
/// (82371SB datasheet, 2.3.10) to an ISA interrupt. Wires are shared: one is high while any pin on it is.
///
/// Under the machine lock. Holds no state of its own: what drives the pins restores them.
public final class PCIInterruptRouter {
  private struct Pin: Hashable {
    let device: Int
    let function: Int
    let wire: Int
  }

  private let inputs: [InterruptLine]
  private let isaLine: (Int) -> InterruptLine
  private var asserted: Set<Pin> = []
  /// ISA interrupt of each wire; nil: none.
  private var routes = [Int?](repeating: nil, count: 4)
  private var isaLevels = [Bool](repeating: false, count: 16)

  /// `inputs` are the four wires' ends at the I/O APIC; `isaLine` gives the line of an ISA interrupt.
  public init(
    inputs: [InterruptLine] = [InterruptLine](repeating: .unconnected, count: 4),
    isaLine: @escaping (Int) -> InterruptLine = { _ in .unconnected }
  ) {
    precondition(inputs.count == 4, "there are four wires")
    self.inputs = inputs
    self.isaLine = isaLine
  }

  /// The wire of a pin, 0 (INTA#) to 3 (INTD#).
  public static func wire(device: Int, pin: Int) -> Int { (device + pin) & 3 }

  func set(_ level: Bool, device: Int, function: Int, pin: Int) {
    let pin = Pin(device: device, function: function, wire: Self.wire(device: device, pin: pin))
    let hasChanged = level ? asserted.insert(pin).inserted : asserted.remove(pin) != nil
    guard hasChanged else { return }
    inputs[pin.wire].set(isHigh(pin.wire))
    driveISA()
  }

  /// Takes over the route registers PIRQRC A to D: bit 7 switches the route off, the low four bits are the ISA interrupt.
  /// Register A has the wire of device 1's pin A.
  public func setRoutes(_ registers: [UInt8]) {
    for (index, value) in registers.prefix(4).enumerated() {
      routes[Self.wire(device: 1, pin: index)] = value & 0x80 == 0 ? Int(value & 0xf) : nil
    }
    driveISA()
  }

  private func isHigh(_ wire: Int) -> Bool { asserted.contains { $0.wire == wire } }

  private func driveISA() {
    for interrupt in isaLevels.indices {
      let level = routes.indices.contains { routes[$0] == interrupt && isHigh($0) }
      guard level != isaLevels[interrupt] else { continue }
      isaLevels[interrupt] = level
      isaLine(interrupt).set(level)
    }
  }
}
