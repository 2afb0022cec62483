import Machine

/// One of the two places on an IDE channel: a drive, the registers that it shows, and the command that it is at. Or no
/// drive: then only what the host writes into the registers is kept.
///
/// A command is the chain of steps that the drive gives (`ATADevice`). Data go through the data register by way of a
/// buffer that holds many blocks, so a command of many sectors asks the disk once for all of them, and then has each
/// block's interrupt ready when the host has taken the last one. A reset while the disk still works on something keeps the
/// drive busy until it is through: nothing of it reaches memory that the guest uses for something else already.
final class IDEUnit {
  struct State: Codable, Equatable {
    var registers = ATARegisters()
    var status: ATAStatus = []
    var error: ATAError = []
    var isInterruptPending = false
    /// The data phase that the command is in.
    var transfer: ATATransfer?
    /// Bytes of it that have moved, without those in the buffer.
    var moved: UInt64 = 0
    /// What of the buffer the host has taken or filled, and where the current block ends.
    var position = 0
    var blockEnd = 0
    /// Software reset is asserted.
    var isInReset = false
    /// The drive has been reset and does not answer again yet.
    var isResetting = false
  }

  struct Snapshot: Codable, Equatable {
    var state: State
    var buffer: [UInt8]
    var drive: ATADrive.State?
  }

  let drive: (any ATADevice)?
  var state = State()
  /// What moves through the data register now.
  var buffer = ATABuffer(count: 0)
  /// Requests to the disk that have not come back.
  private(set) var inFlight = 0
  /// Changes with each reset: what was asked for before comes back to nobody.
  private var epoch: UInt64 = 0
  /// Changes with each power-on, which does not wait for what is in flight.
  private var powerCycle: UInt64 = 0

  /// `state.isInterruptPending` may have changed.
  var onInterrupt: () -> Void = {}
  /// A transfer waits for the bus master.
  var onDMARequest: () -> Void = {}

  init(_ drive: (any ATADevice)?) {
    self.drive = drive
  }

  // MARK: Registers

  func writeRegister(_ offset: UInt64, _ value: UInt8) {
    guard state.status.isDisjoint(with: [.busy, .dataRequest]) else { return }
    state.registers.write(offset, value)
  }

  /// Device selection reaches both drives at any time.
  func writeDevice(_ value: UInt8) { state.registers.device = value }

  func acknowledgeInterrupt() {
    guard state.isInterruptPending else { return }
    state.isInterruptPending = false
    onInterrupt()
  }

  func raiseInterrupt() {
    state.isInterruptPending = true
    onInterrupt()
  }

  // MARK: Commands

  func execute(_ command: UInt8) {
    guard let drive, !state.isInReset else { return }
    if command == ATACommand.deviceReset, drive.isPacketDevice {
      // Works at any time, and without an interrupt.
      acknowledgeInterrupt()
      return beginReset(isHard: false, thenEnd: true)
    }
    // A command that comes while another one is at work is lost.
    guard state.status.isDisjoint(with: [.busy, .dataRequest]) else { return }
    acknowledgeInterrupt()
    state.status = .busy
    state.error = []
    go(drive.begin(command, state.registers))
  }

  /// EXECUTE DEVICE DIAGNOSTIC, which both drives carry out and the first answers.
  func diagnose(answers: Bool) {
    guard let drive, !state.isInReset, state.status.isDisjoint(with: [.busy, .dataRequest]) else { return }
    acknowledgeInterrupt()
    show(drive.signature)
    if answers { raiseInterrupt() }
  }

  private func show(_ outcome: ATAOutcome) {
    let device = state.registers.device
    state.registers = outcome.registers
    // Which drive is selected is the host's.
    state.registers.device =
      device & ATARegisters.Device.second | outcome.registers.device & ~ATARegisters.Device.second
    state.status = outcome.status
    state.error = outcome.error
  }

  func go(_ step: ATAStep, interrupts: Bool = true) {
    switch step {
    case .done(let outcome):
      state.transfer = nil
      buffer = ATABuffer(count: 0)
      show(outcome)
      if interrupts { raiseInterrupt() }
    case .work(let work):
      state.status = .busy
      wait { [self] resume in drive?.perform(work) { outcome in resume { self.go(.done(outcome)) } } }
    case .transfer(let transfer):
      state.transfer = transfer
      (state.moved, state.position, state.blockEnd) = (0, 0, 0)
      switch (transfer.method, transfer.direction) {
      case (.pio, .toHost): fillBuffer()
      case (.pio, .toDrive): emptyBuffer(isFirst: true)
      case (.dma, _), (.queued, _):
        state.status = [.ready, .seekComplete, .dataRequest]
        markPhase(count: 0)
        onDMARequest()
      }
    }
  }

  /// Begins something that may come back later; `resume` runs what follows unless there was a reset meanwhile.
  func wait(_ begin: (_ resume: @escaping (() -> Void) -> Void) -> Void) {
    inFlight += 1
    let (begun, power) = (epoch, powerCycle)
    begin { [self] next in
      guard power == powerCycle else { return }
      inFlight -= 1
      if begun == epoch { next() } else { endResetIfDrained() }
    }
  }

  // MARK: Reset

  /// Begins a reset. It ends when the host says so (`endReset`), or by itself.
  func beginReset(isHard: Bool, thenEnd: Bool = false) {
    epoch &+= 1
    let device = state.registers.device
    state = State()
    state.registers.device = device
    buffer = ATABuffer(count: 0)
    guard let drive else { return }
    drive.reset(isHard: isHard)
    state.status = .busy
    state.isInReset = !thenEnd
    state.isResetting = true
    if thenEnd { endResetIfDrained() }
  }

  func endReset() {
    guard state.isInReset else { return }
    state.isInReset = false
    endResetIfDrained()
  }

  private func endResetIfDrained() {
    guard let drive, inFlight == 0, state.isResetting, !state.isInReset else { return }
    state.isResetting = false
    show(drive.signature)
  }

  /// Power-on: what the disk still works on is nobody's business any more.
  func powerOn() {
    powerCycle &+= 1
    inFlight = 0
    beginReset(isHard: true, thenEnd: true)
    state.registers.device = 0
  }

  // MARK: State

  func save() -> Snapshot { Snapshot(state: state, buffer: buffer.contents, drive: drive?.save()) }

  func restore(_ snapshot: Snapshot) {
    powerOn()
    guard let drive else {
      state.registers = snapshot.state.registers
      return
    }
    if let saved = snapshot.drive { drive.restore(saved) }
    state = snapshot.state
    buffer = ATABuffer(snapshot.buffer)
    let isSound =
      (0...buffer.bytes.count).contains(state.position)
      && (state.position...buffer.bytes.count).contains(state.blockEnd)
      && state.transfer.map { $0.isSound && state.moved <= $0.count } ?? true
    // Nothing is under way after a restore: a drive that would wait for it starts anew.
    if !isSound || state.status.contains(.busy) && !state.isInReset { beginReset(isHard: false, thenEnd: true) }
  }
}
