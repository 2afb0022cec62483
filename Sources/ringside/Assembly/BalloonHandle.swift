import Devices
import Machine

/// The balloon of a machine, for any thread.
final class BalloonHandle: @unchecked Sendable {
  private let machine: VirtualMachine
  /// Guarded by the machine lock.
  private let balloon: VirtioBalloon

  init(_ machine: VirtualMachine, _ balloon: VirtioBalloon) {
    self.machine = machine
    self.balloon = balloon
  }

  /// Asks the guest to leave so much memory to the host in all. Not under the machine lock.
  func setTarget(_ size: MemorySize) { machine.lock.withLock { balloon.target = size.balloonPages } }
}
