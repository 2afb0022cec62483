import Machine
import Memory
import X86

// Commands, from their bit in PxCI to the frame that tells of their end (AHCI 1.3.1, 5.3 and 5.5).

extension AHCIPort {
  private typealias Interrupt = AHCIRegister.Interrupt

  /// Begins whatever is issued and may begin.
  func beginCommands() {
    while let slot = nextSlot() { begin(slot) }
  }

  /// The lowest slot that is issued and not at work; nil where none may begin.
  private func nextSlot() -> Int? {
    guard state.command & AHCIRegister.Command.start != 0, !state.isHalted, busySlot == nil, queueFailure == nil,
      isBusMaster(), drive != nil, state.control & 0xf == 0, inFlight == queuedSlots.nonzeroBitCount
    else { return nil }
    let waiting = state.issue & ~queuedSlots
    return waiting == 0 ? nil : waiting.trailingZeroBitCount
  }

  private func begin(_ slot: Int) {
    guard let drive, let memory = platform?.memory else { return }
    state.currentSlot = UInt32(slot)
    guard let command = AHCICommand(slot: slot, list: state.commandList, memory: memory) else { return halt() }
    guard command.frame.isCommand else {
      state.issue &= ~(1 << UInt32(slot))
      return writeDeviceControl(command.frame.control)
    }
    busySlot = slot
    state.taskFile = UInt32(ATAStatus.busy.rawValue)
    go(drive.begin(command.frame.command, command.frame.registers), command)
  }

  /// Header, table or data are not where there is memory.
  private func halt() {
    busySlot = nil
    state.isHalted = true
    raise(Interrupt.hostBusFatal)
  }

  private func go(_ step: ATAStep, _ command: AHCICommand) {
    guard let drive else { return }
    switch step {
    case .done(let outcome): end(outcome, command)
    case .work(let work):
      wait { resume in drive.perform(work) { [self] outcome in resume { end(outcome, command) } } }
    case .transfer(let transfer): move(transfer, command)
    }
  }

  /// Begins something that may come back later; `resume` runs what follows unless the host has taken it back.
  private func wait(_ begin: (_ resume: @escaping (() -> Void) -> Void) -> Void) {
    inFlight += 1
    let (begun, power) = (epoch, powerCycle)
    begin { [self] next in
      guard power == powerCycle else { return }
      inFlight -= 1
      if begun == epoch { next() }
      receiveSignature()
      beginCommands()
    }
  }

  // MARK: Data

  private func move(_ transfer: ATATransfer, _ command: AHCICommand) {
    guard let drive, let memory = platform?.memory else { return }
    if transfer.isPacket, transfer.content == .parameters {
      return go(drive.accept(Array(command.packet.prefix(Int(transfer.count))), for: transfer), command)
    }
    guard let segments = command.segments(memory, count: transfer.count) else { return halt() }
    var transfer = transfer
    if segments.count < transfer.count {
      guard transfer.direction == .toHost, !isQueued(command) else { return halt() }
      // The host has less room than the drive has data: what does not fit is lost.
      raise(Interrupt.overflow)
      transfer.count = transfer.content.isOnMedium ? segments.count & ~511 : segments.count
    }
    switch transfer.content {
    case .bytes(let bytes):
      guard segments.write(bytes, to: memory) else { return halt() }
      finish(transfer, command)
    case .parameters:
      guard let bytes = segments.read(from: memory) else { return halt() }
      command.noteCount(transfer.count, in: memory)
      go(drive.accept(bytes, for: transfer), command)
    case .medium:
      if case .queued = transfer.method { accept(command) }
      moveMedium(transfer, segments.prefix(transfer.count), command)
    }
  }

  private func moveMedium(_ transfer: ATATransfer, _ segments: GuestSegments, _ command: AHCICommand) {
    guard let drive else { return }
    guard transfer.count > 0 else { return finish(transfer, command) }
    wait { resume in
      drive.move(transfer, position: 0, count: transfer.count, memory: segments.memory) { [self] result in
        resume {
          if case .queued(let tag) = transfer.method { return endQueued(result, tag: tag, transfer, command) }
          switch result {
          case .moved: finish(transfer, command)
          case .badMemory: halt()
          case .failed(let outcome): end(outcome, command)
          }
        }
      }
    }
  }

  /// All data have moved.
  private func finish(_ transfer: ATATransfer, _ command: AHCICommand) {
    guard let drive, let memory = platform?.memory else { return }
    command.noteCount(transfer.count, in: memory)
    let step = drive.finish(transfer)
    guard transfer.method == .pio, case .done(let outcome) = step else { return go(step, command) }
    // Of the frames that announce a block each, only the last is to be seen afterwards.
    let block = Int(min(transfer.count, UInt64(transfer.blockSize)))
    let interrupts = transfer.direction == .toHost || transfer.count > UInt64(transfer.blockSize)
    receive(
      FrameInformation.setupPIO(transfer, ending: outcome, count: block, interrupts: interrupts),
      at: FrameInformation.ReceiveOffset.setupPIO)
    if interrupts { raise(Interrupt.setupFIS) }
    // Data to the host end with that frame, others with the registers.
    guard transfer.direction == .toHost, !transfer.isPacket else { return end(outcome, command) }
    setTaskFile(outcome)
    release(command.slot)
    beginCommands()
  }

  // MARK: The end

  private func end(_ outcome: ATAOutcome, _ command: AHCICommand) {
    if isQueued(command) {
      let tag = Int(command.frame.registers.count >> 3 & 0x1f)
      return endQueue(tag: tag, outcome)
    }
    if outcome.isFailure {
      busySlot = nil
      state.isHalted = true
    } else {
      release(command.slot)
    }
    post(outcome, interrupts: true)
    beginCommands()
  }

  private func release(_ slot: Int) {
    busySlot = nil
    state.issue &= ~(1 << UInt32(slot))
  }

  private func setTaskFile(_ outcome: ATAOutcome) {
    state.taskFile = UInt32(outcome.error.rawValue) << 8 | UInt32(outcome.status.rawValue)
  }

  /// The drive sends its registers.
  func post(_ outcome: ATAOutcome, interrupts: Bool) {
    setTaskFile(outcome)
    receive(
      FrameInformation.registersToHost(outcome, interrupts: interrupts),
      at: FrameInformation.ReceiveOffset.registerToHost)
    raise((interrupts ? Interrupt.registerFIS : 0) | (outcome.isFailure ? Interrupt.taskFileError : 0))
  }

  private func receive(_ frame: [UInt8], at offset: UInt64) {
    guard state.command & AHCIRegister.Command.receiveEnable != 0, isBusMaster(), let memory = platform?.memory else {
      return
    }
    let address = GuestPhysicalAddress(state.received &+ offset)
    let isThere = frame.withUnsafeBytes { memory.write(address, from: $0) }
    if !isThere { raise(Interrupt.hostBusFatal) }
  }

  // MARK: Queued commands

  private func isQueued(_ command: AHCICommand) -> Bool {
    command.frame.command == ATACommand.readQueued || command.frame.command == ATACommand.writeQueued
  }

  /// The drive has taken a queued command and is ready for the next.
  private func accept(_ command: AHCICommand) {
    release(command.slot)
    queuedSlots |= 1 << UInt32(command.slot)
    post(.success(command.frame.registers), interrupts: false)
  }

  private func endQueued(_ result: ATAMovement, tag: Int, _ transfer: ATATransfer, _ command: AHCICommand) {
    guard let drive, let memory = platform?.memory else { return }
    queuedSlots &= ~(1 << UInt32(command.slot))
    switch result {
    case .badMemory: halt()
    case .failed(let outcome): endQueue(tag: tag, outcome)
    case .moved:
      command.noteCount(transfer.count, in: memory)
      switch drive.finish(transfer) {
      case .done(let outcome): endQueue(tag: tag, outcome)
      case .transfer: preconditionFailure("a queued command has one transfer")
      case .work(let work):
        queuedSlots |= 1 << UInt32(command.slot)
        wait { resume in
          drive.perform(work) { [self] outcome in
            resume {
              queuedSlots &= ~(1 << UInt32(command.slot))
              endQueue(tag: tag, outcome)
            }
          }
        }
      }
    }
  }

  /// A queued command has ended. The first that fails takes the others with it, which then are not reported any more.
  private func endQueue(tag: Int, _ outcome: ATAOutcome) {
    busySlot = nil
    if outcome.isFailure, queueFailure == nil { queueFailure = (tag, outcome) }
    if let failure = queueFailure {
      guard queuedSlots == 0 else { return }
      queueFailure = nil
      state.isHalted = true
      drive?.noteQueuedFailure(tag: failure.tag, failure.outcome)
      return report(failure.outcome, tags: 0)
    }
    state.active &= ~(1 << UInt32(tag))
    report(outcome, tags: 1 << UInt32(tag))
  }

  private func report(_ outcome: ATAOutcome, tags: UInt32) {
    // Busy and data request are not in the frame.
    state.taskFile = UInt32(outcome.error.rawValue) << 8 | UInt32(outcome.status.rawValue & 0x77)
    receive(
      FrameInformation.setDeviceBits(outcome.status, outcome.error, tags: tags),
      at: FrameInformation.ReceiveOffset.setDeviceBits)
    raise(Interrupt.setDeviceBitsFIS | (outcome.isFailure ? Interrupt.taskFileError : 0))
  }
}
