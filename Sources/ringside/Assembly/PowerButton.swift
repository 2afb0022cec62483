import Machine

/// The power button of a machine, for any thread: an operating system that listens shuts down, and one that sleeps wakes.
final class PowerButton: @unchecked Sendable {
  private let machine: VirtualMachine
  /// Called under the machine lock.
  private let pressed: () -> Void

  init(_ machine: VirtualMachine, pressed: @escaping () -> Void) {
    self.machine = machine
    self.pressed = pressed
  }

  /// Not under the machine lock.
  func press() { machine.lock.withLock(pressed) }
}
