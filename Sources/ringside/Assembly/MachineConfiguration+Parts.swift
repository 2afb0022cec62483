import Devices
import Machine

/// Parts that every kind of machine has, or can have, in the same place.
extension MachineConfiguration {
  func addClock(to machine: VirtualMachine) {
    let clock = KVMClock(cpuCount: processorCount)
    machine.add(clock)
    machine.paravirtualClock = clock
  }

  /// `sink` gets what the guest writes, under the machine lock.
  func addDebugConsole(to machine: VirtualMachine, sink: @escaping ([UInt8]) -> Void) throws(BusConflict) {
    let console = DebugConsole(sink: sink)
    machine.add(console)
    try machine.bus.map(console, region: 0, ports: 0xe9...0xe9, offset: 0)
  }

  func addDebugExit(to machine: VirtualMachine) throws(BusConflict) {
    guard let port = debugExitPort else { return }
    let exit = DebugExit()
    machine.add(exit)
    try machine.bus.map(exit, region: 0, ports: port...(port + 3), offset: 0)
  }

  func addProcessors(to machine: VirtualMachine) throws {
    let makeEngine = engine.factory(
      memory: machine.memory, processor: processor.specification, processorCount: processorCount,
      translation: translation)
    for _ in 0..<processorCount { try machine.addCPU(makeEngine) }
  }

  /// A disk's virtio device; `index` is its place among all disks.
  func makeVirtioBlock(_ disk: DiskConfiguration, index: Int, for machine: VirtualMachine) -> VirtioBlock {
    VirtioBlock(machine.addDisk(disk.image), serial: disk.serialNumber(at: index), queueCount: diskQueueCount)
  }
}
