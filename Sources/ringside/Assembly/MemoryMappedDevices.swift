import Devices
import Firmware
import Machine

/// The virtio devices of a machine without PCI: each has a page of registers and a pin of the I/O APIC.
struct MemoryMappedDevices {
  private static let address: UInt64 = 0xfeb0_0000
  private static let stride: UInt64 = 0x1000

  private let machine: VirtualMachine
  private let ioAPIC: IOAPIC
  private let pins: Range<Int>
  /// What ACPI's tables are to say of them.
  private(set) var described: [ACPIConfiguration.ReducedHardware.VirtioDevice] = []

  init(_ machine: VirtualMachine, _ ioAPIC: IOAPIC, pins: Range<Int>) {
    self.machine = machine
    self.ioAPIC = ioAPIC
    self.pins = pins
  }

  mutating func add<Model: VirtioModel>(_ model: Model) throws {
    let number = described.count
    guard number < pins.count else {
      throw CommandFailure(
        description: "there are more virtio devices than a 'micro' machine has interrupts: give at most \(pins.count)")
    }
    let pin = pins.lowerBound + number
    let device = VirtioMMIO(model, interrupt: ioAPIC.line(pin))
    let address = Self.address + UInt64(number) * Self.stride
    let size = VirtioMMIO<Model>.size
    machine.add(device)
    try machine.bus.map(device, region: 0, memory: address..<address + size)
    described.append(.init(address: UInt32(address), size: UInt32(size), interrupt: UInt32(pin)))
  }
}
