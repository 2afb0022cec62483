import CHost
import Glibc
import X86

// No allocation, no text and no more than one turn of the machine lock on these paths: a guest that drives a device comes
// here hundreds of thousands of times a second.

extension VirtualCPU: ExitResponder {
  public func respond(to exit: VMExit) {
    let start = hostTimeStamp()
    if machine.events.wants(.exit) { machine.events.publish(.exit(cpu: index, exit)) }
    handle(exit)
    statistics.record(exit, ticks: hostTimeStamp() &- start)
  }

  /// Does what the guest's exit asks for.
  private func handle(_ exit: VMExit) {
    switch exit {
    case .portRead(let port, let size): readPort(port, size: size)
    case .portWrite(let port, let size, let value): writePort(port, size: size, value: UInt64(value))
    case .memoryRead(let address, let size): readMemory(address, size: size)
    case .memoryWrite(let address, let size, let value): writeMemory(address, size: size, value: value)
    case .msrRead(let index): readMSR(index)
    case .msrWrite(let index, let value): writeMSR(index, value: value)
    case .timeStampRead:
      machine.lock.lock()
      answer(machine.clock.timeStamp &+ (state.pointee.tscOffset &- machine.clock.timeStampOffset))
      machine.lock.unlock()
    case .randomRead(let size): readRandom(size: size)
    case .timeStampMoved:
      machine.lock.withLock {
        if let controller = machine.interruptController { bringTimeStampOffset(to: controller) }
        if let clock = machine.paravirtualClock { bringTimeStampOffset(to: clock) }
      }
    case .taskPriorityChanged, .interruptWindow: machine.lock.withLock { takeEvents() }
    case .halt: if state.pointee.activity == .halted { haltUntilEvent() }
    // For the processor that this one waits for; a host thread that waits for nobody would only lose its turn.
    case .yield: if machine.cpus.count > 1 { sched_yield() }
    case .numericError: machine.lock.withLock { machine.numericErrorLine.set(true) }
    case .shutdown: machine.shutDown(self)
    case .hypercall: answerHypercall()
    case .debug(let address):
      machine.end(.failed("the engine stopped for a debugger at \(address), and there is none"))
    case .budgetSpent, .attention: break
    }
  }

  private func readPort(_ port: UInt16, size: Int) {
    machine.lock.lock()
    let value = machine.bus.readPort(port, size: size)
    machine.lock.unlock()
    answer(value)
    guard machine.events.wants(.portAccess) else { return }
    machine.events.publish(.portAccess(cpu: index, port: port, size: size, value: value, isWrite: false))
  }

  private func writePort(_ port: UInt16, size: Int, value: UInt64) {
    machine.lock.lock()
    machine.bus.writePort(port, size: size, value: value)
    machine.lock.unlock()
    guard machine.events.wants(.portAccess) else { return }
    machine.events.publish(.portAccess(cpu: index, port: port, size: size, value: value, isWrite: true))
  }

  private func readMemory(_ address: GuestPhysicalAddress, size: Int) {
    machine.lock.lock()
    let value: UInt64
    if let controller = controller(at: address) {
      bringTaskPriority(to: controller)
      value = controller.read(region: 1, offset: address.rawValue & 0xfff, size: size)
    } else {
      value = machine.bus.readMemory(address, size: size)
    }
    machine.lock.unlock()
    answer(value)
    guard machine.events.wants(.memoryAccess) else { return }
    machine.events.publish(.memoryAccess(cpu: index, address: address, size: size, value: value, isWrite: false))
  }

  private func writeMemory(_ address: GuestPhysicalAddress, size: Int, value: UInt64) {
    machine.lock.lock()
    if let controller = controller(at: address) {
      bringTaskPriority(to: controller)
      controller.write(region: 1, offset: address.rawValue & 0xfff, size: size, value: value)
      state.pointee.cr8 = controller.taskPriority(cpu: index)
      takeNumber(from: controller)
    } else {
      machine.bus.writeMemory(address, size: size, value: value)
    }
    machine.lock.unlock()
    guard machine.events.wants(.memoryAccess) else { return }
    machine.events.publish(.memoryAccess(cpu: index, address: address, size: size, value: value, isWrite: true))
  }

  /// The interrupt controller, if `address` is on the page where this processor sees its registers.
  private func controller(at address: GuestPhysicalAddress) -> (any InterruptController & Device)? {
    guard let controller = machine.interruptController else { return nil }
    controller.currentCPU = index
    return controller.registerPage(cpu: index) == address.rawValue & ~0xfff ? controller : nil
  }

  /// CR8 and the controller's task priority are one register. The controller's has four bits more, which stay as long as
  /// the others do.
  func bringTaskPriority(to controller: any InterruptController) {
    guard controller.taskPriority(cpu: index) != state.pointee.cr8 else { return }
    controller.setTaskPriority(state.pointee.cr8, cpu: index)
  }

  /// The engine answers reads of the processor's number by itself.
  func takeNumber(from controller: any InterruptController) {
    let register = controller.numberRegister(cpu: index)
    state.pointee.engine.numberAddress = register?.address.rawValue ?? ~0
    state.pointee.engine.number = register?.value ?? 0
  }

  /// Before a register is written, too: not all changes are the guest's.
  private func bringTimeStampOffset(to registers: any ProcessorRegisters) {
    registers.setTimeStampOffset(state.pointee.tscOffset &- machine.clock.timeStampOffset, cpu: index)
  }

  private func readMSR(_ register: UInt32) {
    machine.lock.lock()
    var value: UInt64?
    if let controller = machine.interruptController {
      bringTaskPriority(to: controller)
      value = controller.readMSR(register, cpu: index)
    }
    if value == nil { value = machine.paravirtualClock?.readMSR(register, cpu: index) }
    machine.lock.unlock()
    guard let value else { return refuse { "read of MSR \(hexadecimal(UInt64(register)))" } }
    answer(value)
  }

  private func writeMSR(_ register: UInt32, value: UInt64) {
    machine.lock.lock()
    var isTaken = false
    if let controller = machine.interruptController {
      bringTaskPriority(to: controller)
      bringTimeStampOffset(to: controller)
      isTaken = controller.writeMSR(register, value: value, cpu: index)
      state.pointee.cr8 = controller.taskPriority(cpu: index)
      takeNumber(from: controller)
    }
    if !isTaken, let clock = machine.paravirtualClock {
      bringTimeStampOffset(to: clock)
      isTaken = clock.writeMSR(register, value: value, cpu: index)
    }
    machine.lock.unlock()
    guard isTaken else {
      return refuse { "write of \(hexadecimal(value)) to MSR \(hexadecimal(UInt64(register)))" }
    }
    answer(0)
  }

  /// Where nobody answers, the number is unknown, whatever it is.
  private func answerHypercall() {
    guard let interface = machine.hypercalls else {
      state.pointee.gpr.0 = ~0
      return
    }
    machine.lock.lock()
    interface.hypercall(&state.pointee, cpu: index)
    machine.lock.unlock()
  }

  private func readRandom(size: Int) {
    var value: UInt64 = 0
    machine.lock.withLock {
      withUnsafeMutableBytes(of: &value) { bytes in
        machine.inputs.entropy(UnsafeMutableRawBufferPointer(rebasing: bytes[..<min(max(size, 0), 8)]))
      }
    }
    answer(value)
  }

  /// Sleeps until there is something to do. An interrupt may have become pending since the engine last looked.
  private func haltUntilEvent() {
    machine.lock.lock()
    takeEvents()
    machine.lock.unlock()
    if state.pointee.activity == .halted { sleep() }
  }

  private func answer(_ value: UInt64) {
    state.pointee.completion.data = value
    state.pointee.completion.isValid = 1
    state.pointee.completion.isRefused = 0
  }

  private func refuse(_ what: () -> String) {
    state.pointee.completion.isValid = 1
    state.pointee.completion.isRefused = 1
    guard machine.logsDebug, let held = unknownMSRs.pass() else { return }
    machine.log.debug("\(what()), which does not exist: #GP\(held > 0 ? " (and \(held) more)" : "")")
  }
}
