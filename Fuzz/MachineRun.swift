import Devices
import Glibc
import Host
import Logging
import Machine
import Memory
import Processor

/// A guest in a whole machine with the interrupt controllers and chips of a PC, for a few milliseconds of host time: what
/// it does to devices, they to it, and both to the machine's own threads. It may end in any way a guest's run ends, but
/// not in the machine's failure.
struct MachineRun {
  let scenario: Scenario

  private static let duration: UInt32 = 20_000

  func run() throws -> Int {
    let loop = try EventLoop(name: "fuzz")
    defer { loop.stop() }
    let machine = try VirtualMachine(
      memory: GuestMemory(size: Layout.memorySize), loop: loop, inputs: HostInput(),
      timeStampFrequency: TimeStampFrequency(hertz: 1_000_000_000, source: .measured),
      log: Logger(label: "fuzz") { _ in SwiftLogNoOpLogHandler() })
    try addDevices(to: machine)
    let codeWatch = CodeWatch(memory: machine.memory)
    for _ in 0..<2 {
      try machine.addCPU { [scenario] context in
        SoftwareEngine(
          memory: context.memory, model: scenario.model, codeWatch: codeWatch, translation: scenario.translation)
      }
    }
    machine.reload = { [scenario, unowned(unsafe) machine] in
      let state = machine.cpus[0].state
      let intercepts = state.pointee.intercepts
      scenario.install(in: machine.memory, &state.pointee)
      state.pointee.intercepts = intercepts
    }
    machine.endsOnReset = scenario.seed % 3 == 0
    try machine.start()
    usleep(Self.duration)
    if scenario.seed % 5 == 0 {
      machine.pause()
      machine.resume()
    }
    machine.end()
    let outcome = machine.wait()
    if case .failed(let reason) = outcome { throw GuestFailure("the machine failed: \(reason)") }
    // The others may not have been started.
    for cpu in machine.cpus where cpu.state.pointee.instructionCount > 0 {
      if let violation = Invariants.violation(cpu.state.pointee) { throw GuestFailure("\(violation), in a machine") }
    }
    return machine.cpus.map { Int(truncatingIfNeeded: $0.state.pointee.instructionCount) }.reduce(0, +)
  }

  private func addDevices(to machine: VirtualMachine) throws {
    let fabric = InterruptFabric(cpuCount: 2, target: machine.interruptRouter)
    let ioAPIC = IOAPIC(fabric)
    let pic = PIC(output: fabric.line0)
    fabric.externalController = pic
    try machine.addInterruptFabric(fabric)
    machine.add(ioAPIC)
    // Where the guest's device pages lead.
    try machine.bus.map(ioAPIC, region: 0, memory: Layout.device..<(Layout.device + IOAPIC.pageSize))
    machine.add(pic)
    try machine.bus.map(pic, region: 0, ports: 0x20...0x21, offset: 0)
    try machine.bus.map(pic, region: 1, ports: 0xa0...0xa1, offset: 0)
    let timer = PIT(line: pic.line(0))
    machine.add(timer)
    try machine.bus.map(timer, region: 0, ports: 0x40...0x43, offset: 0)
    let clock = RTC(line: pic.line(8))
    machine.add(clock)
    try machine.bus.map(clock, region: 0, ports: 0x70...0x71, offset: 0)
    let serial = Serial16550(interrupt: pic.line(4))
    machine.add(serial)
    try machine.bus.map(serial, region: 0, ports: 0x3f8...0x3ff, offset: 0)
  }
}
