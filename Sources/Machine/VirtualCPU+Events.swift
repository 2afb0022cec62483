import CHost
import X86

extension VirtualCPU {
  /// One that is about to be taken, and one that waits behind it.
  static let pendingNMILimit: UInt8 = 2

  /// Takes INIT, SIPI, NMI and external interrupts, as far as the processor is ready for them; asks for an exit at the
  /// next interrupt window where one must wait. On the processor's thread, under the machine lock.
  func takeEvents() {
    takePins()
    if signals.initialize {
      signals.initialize = false
      signals.nonMaskableInterrupts = 0
      machine.paravirtualClock?.initialize(cpu: index)
      state.pointee.initialize(isBootstrap: index == 0)
      engine.stateChanged(&state.pointee)
    }
    if let vector = signals.startUpVector {
      signals.startUpVector = nil
      // A processor that is not waiting ignores it (SDM vol. 3A, 8.4.4.1).
      if state.pointee.activity == .waitForSIPI {
        state.pointee.startUp(vector: vector)
        engine.stateChanged(&state.pointee)
      }
    }
    if signals.nonMaskableInterrupts != 0, isListening {
      // While one is handled, one more is remembered; two that come at once are both taken (SDM vol. 3A, 6.7.1).
      let limit = state.pointee.nmiBlocked == 0 ? Self.pendingNMILimit : 1
      state.pointee.nmiPending = min(state.pointee.nmiPending &+ signals.nonMaskableInterrupts, limit)
      signals.nonMaskableInterrupts = 0
      state.pointee.activity = .running
    }
    takeInterrupt()
  }

  /// The pins that are no interrupts: see `InterruptRouter+Pins`.
  private func takePins() {
    if let isOpen = signals.addressLine20 {
      signals.addressLine20 = nil
      state.pointee.isA20Masked = isOpen ? 0 : 1
    }
    if signals.ignoresNumericErrors {
      signals.ignoresNumericErrors = false
      state.pointee.ignoresNumericErrors = 1
    }
  }

  /// Moves the highest pending vector from the controller into the processor, if the processor can take it now.
  private func takeInterrupt() {
    guard let controller = machine.interruptController, isListening else { return }
    bringTaskPriority(to: controller)
    guard controller.pendingVector(cpu: index) != nil else {
      state.pointee.wantsInterruptWindow = 0
      return
    }
    guard canTakeInterrupt else {
      state.pointee.wantsInterruptWindow = 1
      return
    }
    guard let vector = controller.acknowledge(cpu: index) else { return }
    state.pointee.interruptPending = 1
    state.pointee.interruptVector = vector
    state.pointee.activity = .running
    if machine.events.wants(.interrupt) { machine.events.publish(.interrupt(cpu: index, vector: vector)) }
    // Another may follow as soon as the handler allows it.
    state.pointee.wantsInterruptWindow = controller.pendingVector(cpu: index) != nil ? 1 : 0
  }

  /// Not shut down, and not before its SIPI.
  private var isListening: Bool { state.pointee.activity == .running || state.pointee.activity == .halted }

  private var canTakeInterrupt: Bool {
    guard state.pointee.rflags & RFLAGS.if != 0, state.pointee.interruptPending == 0 else { return false }
    // A halt was the instruction that the shadow covered.
    return state.pointee.activity == .halted || state.pointee.interruptShadow.isEmpty
  }
}
