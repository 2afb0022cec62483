import CHost

/// Takes what interrupt controllers, and the chip set, have to say to the processors that it concerns. Numbers of processors that do not
/// exist are ignored.
public final class InterruptRouter: InterruptTarget, @unchecked Sendable {
  /// Set while the machine is built.
  public internal(set) var cpus: [VirtualCPU] = []

  public func interruptsChanged(cpu: Int) {
    guard cpus.indices.contains(cpu) else { return }
    cpus[cpu].raise(.interrupt)
  }

  public func nonMaskableInterrupt(cpu: Int) {
    guard cpus.indices.contains(cpu) else { return }
    let count = cpus[cpu].signals.nonMaskableInterrupts
    cpus[cpu].signals.nonMaskableInterrupts = min(count + 1, VirtualCPU.pendingNMILimit)
    cpus[cpu].raise(.interrupt)
  }

  public func initialize(cpu: Int) {
    guard cpus.indices.contains(cpu) else { return }
    cpus[cpu].signals.initialize = true
    // A SIPI that came before the INIT is void.
    cpus[cpu].signals.startUpVector = nil
    cpus[cpu].raise(.interrupt)
  }

  public func startUp(cpu: Int, vector: UInt8) {
    guard cpus.indices.contains(cpu) else { return }
    cpus[cpu].signals.startUpVector = vector
    cpus[cpu].raise(.interrupt)
  }

  /// Guest-physical memory was changed by somebody else than an engine, where an engine holds code or somebody watches.
  func invalidate(_ range: Range<UInt64>) {
    for cpu in cpus {
      cpu.engine.invalidate(range)
      cpu.raise(.invalidate)
    }
  }
}
