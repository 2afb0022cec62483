import Machine

/// An IDE channel: two drives on one cable, and the bus master that moves data for them.
///
/// What a host writes reaches both drives; the selected one carries commands out, answers reads and drives the interrupt
/// wire. Where only drive 0 is there, it answers for drive 1 with a status of zero (ATA8-ACS, 7.2). A channel without
/// drives reads as zeros.
final class IDEChannel {
  struct State: Codable, Equatable {
    var selected = 0
    var control: UInt8 = 0
    var isInterruptHigh = false
    var busMaster = IDEBusMaster()
  }

  struct Snapshot: Codable, Equatable {
    var state: State
    var units: [IDEUnit.Snapshot]
  }

  /// Bits of the device control register.
  private enum Control {
    static let interruptDisable: UInt8 = 1 << 1
    static let softwareReset: UInt8 = 1 << 2
    /// Reads show what was written before (HOB).
    static let previous: UInt8 = 1 << 7
  }

  let units: [IDEUnit]
  private let interrupt: InterruptLine
  private var state = State()
  private var platform: DevicePlatform?
  /// Whether the function may reach memory.
  var isBusMaster: () -> Bool = { false }

  /// `drives` are drive 0 and drive 1.
  init(_ drives: [ATADrive?], interrupt: InterruptLine) {
    units = drives.map { IDEUnit($0?.device) }
    self.interrupt = interrupt
    for unit in units {
      unit.onInterrupt = { [unowned self] in driveInterrupt() }
      unit.onDMARequest = { [unowned self] in moveData() }
    }
  }

  func attach(to platform: DevicePlatform) { self.platform = platform }

  private var selected: IDEUnit { units[state.selected] }
  private var isEmpty: Bool { units.allSatisfy { $0.drive == nil } }

  // MARK: Command block

  /// Reads a register other than data.
  func read(_ offset: UInt64) -> UInt8 {
    guard offset != ATARegisters.Offset.command else { return readStatus(acknowledges: true) }
    // Drive 0 answers for an absent drive 1, nobody for an absent drive 0.
    let unit = selected.drive != nil ? selected : units[0]
    guard unit.drive != nil else { return 0 }
    guard offset != ATARegisters.Offset.features else { return unit.state.error.rawValue }
    // One bit of the device register is the channel's own business.
    if offset == ATARegisters.Offset.device { return selected.state.registers.device | ATARegisters.Device.obsolete }
    return unit.state.registers.read(offset, previous: state.control & Control.previous != 0)
  }

  /// The status register; the alternate status register does not acknowledge an interrupt.
  func readStatus(acknowledges: Bool) -> UInt8 {
    guard selected.drive != nil else { return 0 }
    let status = selected.state.status.rawValue
    if acknowledges { selected.acknowledgeInterrupt() }
    return status
  }

  /// Writes a register other than data.
  func write(_ offset: UInt64, _ value: UInt8) {
    state.control &= ~Control.previous
    switch offset {
    case ATARegisters.Offset.command: execute(value)
    case ATARegisters.Offset.device:
      state.selected = value & ATARegisters.Device.second != 0 ? 1 : 0
      for unit in units { unit.writeDevice(value) }
      driveInterrupt()
    default: for unit in units { unit.writeRegister(offset, value) }
    }
  }

  private func execute(_ command: UInt8) {
    guard command == ATACommand.executeDiagnostic else { return selected.execute(command) }
    // Both drives carry it out, whichever is selected; afterwards drive 0 is.
    guard !isEmpty, selected.drive == nil || selected.state.status.isDisjoint(with: [.busy, .dataRequest]) else {
      return
    }
    selectFirst()
    for (index, unit) in units.enumerated() { unit.diagnose(answers: index == 0) }
  }

  private func selectFirst() {
    state.selected = 0
    for unit in units { unit.writeDevice(unit.state.registers.device & ~ATARegisters.Device.second) }
  }

  func readData(width: Int) -> UInt64 { selected.readData(width: width) }

  func writeData(_ value: UInt64, width: Int) { selected.writeData(value, width: width) }

  // MARK: Control block

  func writeControl(_ value: UInt8) {
    let wasReset = state.control & Control.softwareReset != 0
    let isReset = value & Control.softwareReset != 0
    state.control = value & (Control.interruptDisable | Control.softwareReset | Control.previous)
    if isReset, !wasReset {
      selectFirst()
      for unit in units { unit.beginReset(isHard: false) }
    } else if !isReset, wasReset {
      for unit in units { unit.endReset() }
    }
    driveInterrupt()
  }

  /// The selected drive's interrupt, if it is enabled. The bus master notes when it rises.
  private func driveInterrupt() {
    let level =
      selected.drive != nil && selected.state.isInterruptPending && state.control & Control.interruptDisable == 0
    guard level != state.isInterruptHigh else { return }
    state.isInterruptHigh = level
    if level { state.busMaster.noteInterrupt() }
    interrupt.set(level)
  }

  // MARK: Bus master

  func readBusMaster(_ offset: UInt64) -> UInt8 { state.busMaster.read(offset) }

  func writeBusMaster(_ offset: UInt64, _ value: UInt8) {
    if state.busMaster.write(offset, value) { moveData() }
  }

  /// Moves data where a drive waits, the bus master is started and the function may reach memory.
  func moveData() {
    guard let platform, state.busMaster.isStarted, state.busMaster.status.contains(.active), isBusMaster(),
      let unit = units.first(where: { $0.awaitsDMA != nil }), let transfer = unit.awaitsDMA
    else { return }
    guard let regions = state.busMaster.regions(platform.memory, count: transfer.count) else {
      return state.busMaster.end(isExhausted: false, hasFailed: true)
    }
    // A table that is too short: the bus master has nothing more to do, and the drive waits until it is reset.
    guard regions.segments.count == transfer.count else {
      return state.busMaster.end(isExhausted: true, hasFailed: false)
    }
    unit.moveByDMA(regions.segments, platform: platform) { [self] isMemory in
      state.busMaster.end(isExhausted: regions.isExhausted, hasFailed: !isMemory)
    }
  }

  // MARK: State

  func reset() {
    state = State()
    for unit in units { unit.powerOn() }
    interrupt.set(false)
  }

  func save() -> Snapshot { Snapshot(state: state, units: units.map { $0.save() }) }

  func restore(_ snapshot: Snapshot) {
    for (unit, saved) in zip(units, snapshot.units) { unit.restore(saved) }
    state = snapshot.state
    state.selected = state.selected == 1 ? 1 : 0
    interrupt.set(state.isInterruptHigh)
  }
}
