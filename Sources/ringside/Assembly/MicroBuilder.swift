import CHost
import Devices
import Firmware
import Host
import Logging
import Machine
import Memory

/// Builds the machine without legacy: local APICs and an I/O APIC, a serial port, KVM's clock, and virtio devices whose
/// registers are in memory. There is no 8259, no timer but the local APICs', no PCI, and no firmware: ACPI tables, for
/// hardware-reduced systems, tell the kernel everything.
struct MicroBuilder: MachineAssembly {
  /// Pins of the I/O APIC.
  private enum Interrupt {
    static let serial = 4
    static let button = 5
    static let virtio = 6..<24
  }

  let configuration: MachineConfiguration
  let machine: VirtualMachine
  let serialPorts: [Serial16550]
  let console: VirtioConsole?
  let balloon: VirtioBalloon?
  let display: VGA? = nil
  let keys: KeyboardController? = nil

  private let fabric: InterruptFabric
  private let ioAPIC: IOAPIC
  private let power: ReducedPowerManagement
  private let description: ACPIConfiguration

  init(
    _ configuration: MachineConfiguration, loop: EventLoop, log: Logger, debugConsole: @escaping ([UInt8]) -> Void
  ) throws {
    self.configuration = configuration
    machine = try VirtualMachine(
      memory: GuestMemory(size: configuration.memory.bytes), loop: loop, inputs: HostInput(),
      timeStampFrequency: .find(), log: log)
    machine.endsOnReset = configuration.endsOnReset
    fabric = InterruptFabric(cpuCount: configuration.processorCount, target: machine.interruptRouter)
    ioAPIC = IOAPIC(fabric)
    let serial = Serial16550(interrupt: ioAPIC.line(Interrupt.serial))
    serialPorts = [serial]
    power = ReducedPowerManagement(button: ioAPIC.line(Interrupt.button))
    console = configuration.makeConsole()
    balloon = configuration.makeBalloon()
    var hardware = ACPIConfiguration.ReducedHardware()
    hardware.buttonInterrupt = UInt32(Interrupt.button)
    hardware.resetValue = ReducedPowerManagement.Value.reset
    hardware.powerOffType = ReducedPowerManagement.Value.softOff
    try machine.addInterruptFabric(fabric)
    try machine.addIOAPIC(ioAPIC)
    try Self.addPlatform(machine, serial, power, hardware, configuration, debugConsole)

    var devices = MemoryMappedDevices(machine, ioAPIC, pins: Interrupt.virtio)
    for (index, disk) in configuration.disks.enumerated() {
      try devices.add(configuration.makeVirtioBlock(disk, index: index, for: machine))
    }
    if configuration.hasEntropySource { try devices.add(VirtioEntropy()) }
    if let console { try devices.add(console) }
    if let balloon { try devices.add(balloon) }

    var description = ACPIConfiguration(processorCount: configuration.processorCount)
    hardware.virtioDevices = devices.described
    description.reducedHardware = hardware
    self.description = description
    try configuration.addProcessors(to: machine)
    machine.reload = reload
  }

  private static func addPlatform(
    _ machine: VirtualMachine, _ serial: Serial16550, _ power: ReducedPowerManagement,
    _ hardware: ACPIConfiguration.ReducedHardware, _ configuration: MachineConfiguration,
    _ debugConsole: @escaping ([UInt8]) -> Void
  ) throws {
    configuration.addClock(to: machine)
    machine.add(power)
    let control = hardware.sleepControlPort
    try machine.bus.map(
      power, region: 0, ports: control...(control + ReducedPowerManagement.portCount - 1), offset: 0)
    machine.add(serial)
    try machine.bus.map(serial, region: 0, ports: hardware.serialPort...(hardware.serialPort + 7), offset: 0)
    try configuration.addDebugConsole(to: machine, sink: debugConsole)
    try configuration.addDebugExit(to: machine)
  }

  var powerButton: PowerButton { PowerButton(machine) { [power] in power.pressPowerButton() } }

  /// What firmware would do: see `GuestLoader`.
  private func reload() throws {
    try GuestLoader(configuration, machine: machine, serialPorts: serialPorts).load(description, setUpProcessor: {})
  }
}
