import Devices
import Machine

/// The power button of a machine, for any thread: an operating system that listens shuts down, and one that sleeps wakes.
final class PowerButton: @unchecked Sendable {
  private let machine: VirtualMachine
  /// Guarded by the machine lock.
  private let power: PowerManagement

  init(_ machine: VirtualMachine, _ power: PowerManagement) {
    self.machine = machine
    self.power = power
  }

  /// Not under the machine lock.
  func press() { machine.lock.withLock { power.pressPowerButton() } }
}
