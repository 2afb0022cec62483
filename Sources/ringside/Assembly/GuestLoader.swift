import CHost
import Devices
import Firmware
import Machine
import Memory

/// What firmware would do at power-up and after each reset: describe the machine, load the guest, and leave the processor
/// as the guest expects it. Firmware does it itself. The machine is at its power-up state, under its lock.
struct GuestLoader {
  private let configuration: MachineConfiguration
  private let machine: VirtualMachine
  private let serialPorts: [Serial16550]

  init(_ configuration: MachineConfiguration, machine: VirtualMachine, serialPorts: [Serial16550]) {
    self.configuration = configuration
    self.machine = machine
    self.serialPorts = serialPorts
  }

  /// `description` says what the ACPI tables are to say; `setUpProcessor` is called before a kernel is loaded.
  func load(_ description: ACPIConfiguration, setUpProcessor: () -> Void) throws {
    let state = machine.cpus[0].state
    switch configuration.guest {
    case .firmware: break
    case .flat(let file, let address):
      openSerialLines()
      noteLoaded(try BootLoader.loadFlat(file, at: address, memory: machine.memory, state: &state.pointee))
    case .kernel(let file, let modules, let commandLine):
      let root = try ACPITables.install(description, in: machine.memory)
      if let hardware = description.reducedHardware {
        ResetEntry.install(port: hardware.resetPort, value: hardware.resetValue, in: machine.memory)
      }
      enableCaches()
      setUpProcessor()
      openSerialLines()
      noteLoaded(
        try BootLoader.load(
          BootParameters(
            kernel: file, modules: modules, commandLine: commandLine, acpiRootPointer: root,
            hasDisplay: configuration.hasDisplay),
          memory: machine.memory, map: PhysicalMemoryMap(machine.memory), state: &state.pointee))
    }
  }

  /// All memory write-back, no fixed ranges (SDM vol. 3A, 11.11.2.1): without it Linux runs without a PAT.
  func enableCaches() { machine.cpus[0].state.pointee.mtrrDefaultType = 1 << 11 | 6 }

  /// Eight data bits, no parity, one stop bit: guests that only want to say something rely on it.
  func openSerialLines() {
    for port in serialPorts { port.write(region: 0, offset: 3, size: 1, value: 3) }
  }

  private func noteLoaded(_ loaded: LoadedKernel) {
    let entry = String(loaded.entry, radix: 16)
    machine.log.debug("loaded \(configuration.guest.name) (\(loaded.bootProtocol.rawValue)), entry at 0x\(entry)")
  }
}
