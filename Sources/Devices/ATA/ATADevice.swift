import Machine

/// What a drive is to the controller in front of it, be that the register blocks of an IDE channel or an AHCI port.
///
/// A command is a chain of steps. `begin` gives the first; the controller moves data or waits, as the step says, and gets
/// the next one. The drive holds no command: a controller that is reset forgets what it had. Under the machine lock.
protocol ATADevice: AnyObject {
  /// Whether it takes packets.
  var isPacketDevice: Bool { get }
  /// What the registers show after a reset: the signature by which hosts tell disks from packet devices.
  var signature: ATAOutcome { get }
  /// A reset by the host: by the wire, or by power-on (`isHard`), or by software.
  func reset(isHard: Bool)
  func begin(_ command: UInt8, _ registers: ATARegisters) -> ATAStep
  /// All bytes of a transfer of parameters are here.
  func accept(_ bytes: [UInt8], for transfer: ATATransfer) -> ATAStep
  /// Moves the bytes from `position` of a transfer, whose content is the medium, to or from `memory`: `count` of them,
  /// whole sectors. `completion` is not called from inside.
  func move(
    _ transfer: ATATransfer, position: UInt64, count: UInt64, memory: [BlockMemory],
    completion: @escaping (ATAMovement) -> Void)
  /// All of a transfer's data has moved.
  func finish(_ transfer: ATATransfer) -> ATAStep
  /// `completion` may be called from inside.
  func perform(_ work: ATAWork, completion: @escaping (ATAOutcome) -> Void)
  /// A queued command has failed, and with it all others of the queue: the host will ask which.
  func noteQueuedFailure(tag: Int, _ outcome: ATAOutcome)
  func save() -> ATADrive.State
  /// A state of another kind of drive puts it to power-on state.
  func restore(_ state: ATADrive.State)
}
