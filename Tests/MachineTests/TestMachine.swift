import CHost
import Host
import Logging
import Machine
import Memory

/// A machine of one scripted processor, a recording device at ports 0x10 to 0x1f, and a fake interrupt controller.
final class TestMachine: @unchecked Sendable {
  let machine: VirtualMachine
  let loop: EventLoop
  let device = RecordingDevice("device")
  let controller = FakeInterruptController()
  let clock = FakeParavirtualClock()
  private(set) var engines: [ScriptedEngine] = []

  var engine: ScriptedEngine { engines[0] }
  var state: UnsafeMutablePointer<CPUState> { machine.cpus[0].state }

  init(_ scripts: [ScriptedEngine.Step]...) throws {
    loop = try EventLoop(name: "test")
    machine = try VirtualMachine(
      memory: GuestMemory(size: 1 << 20), loop: loop, inputs: HostInput(),
      timeStampFrequency: TimeStampFrequency(hertz: 1_000_000_000, source: .measured),
      log: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
    machine.add(device)
    try machine.bus.map(device, region: 0, ports: 0x10...0x1f, offset: 0)
    try machine.bus.map(device, region: 1, memory: 0xfec0_0000..<0xfec0_1000)
    controller.target = machine.interruptRouter
    machine.interruptController = controller
    machine.paravirtualClock = clock
    for script in scripts {
      try machine.addCPU { [self] _ in
        engines.append(ScriptedEngine(script))
        return engines[engines.count - 1]
      }
    }
  }

  /// Starts the machine and waits for its end.
  func run() throws -> MachineOutcome {
    try machine.start()
    return wait()
  }

  func wait() -> MachineOutcome {
    let outcome = machine.wait()
    loop.stop()
    return outcome
  }

  /// Lets a write of 0xff power off, 0xfe reset.
  func obeyRequests() {
    device.onWrite = { [unowned device] value in
      if value == 0xff { device.platform?.request(.powerOff) }
      if value == 0xfe { device.platform?.request(.reset) }
    }
  }
}

/// `STI` took effect long ago.
func enableInterrupts(_ state: inout CPUState) -> VMExit {
  state.rflags |= 0x200
  return .budgetSpent
}

func halt(_ state: inout CPUState) -> VMExit {
  state.activity = .halted
  return .halt
}

/// Ends the run through the device.
func powerOff(_ state: inout CPUState) -> VMExit { .portWrite(port: 0x1f, size: 1, value: 0xff) }

/// Resets the machine through the device.
func requestReset(_ state: inout CPUState) -> VMExit { .portWrite(port: 0x1f, size: 1, value: 0xfe) }
