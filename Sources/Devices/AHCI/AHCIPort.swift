import Machine
import Memory
import X86

/// A port of the controller: its registers, and the drive behind it, if there is one.
///
/// Commands are taken from the list as their bits in PxCI say (`AHCIPort+Commands`): one that is not queued at a time, or
/// any number of queued ones. What the host stops while a disk still works on it, by PxCMD.ST, a reset of the link or of
/// the controller, goes on quietly; until it is through, PxCMD.CR stays set and no new command begins. So nothing reaches
/// memory that the host uses for something else already.
final class AHCIPort {
  private typealias Register = AHCIRegister.Port
  private typealias Command = AHCIRegister.Command
  private typealias Interrupt = AHCIRegister.Interrupt

  struct State: Codable, Equatable {
    var commandList: UInt64 = 0
    var received: UInt64 = 0
    var interruptStatus: UInt32 = 0
    var interruptEnable: UInt32 = 0
    var command: UInt32 = 0
    /// Error in the second byte, status in the first.
    var taskFile: UInt32 = 0x7f
    var signature: UInt32 = .max
    var control: UInt32 = 0
    var error: UInt32 = 0
    var active: UInt32 = 0
    var issue: UInt32 = 0
    /// The drive's first frame has not been received yet.
    var awaitsSignature = false
    /// Software reset is asserted.
    var isInReset = false
    /// An error has stopped the list until the host starts it anew.
    var isHalted = false
    /// The slot that was begun last.
    var currentSlot: UInt32 = 0
  }

  struct Snapshot: Codable, Equatable {
    var state: State
    var drive: ATADrive.State?
  }

  let drive: (any ATADevice)?
  var state = State()
  private(set) var platform: DevicePlatform?
  /// Whether the function may reach memory.
  var isBusMaster: () -> Bool = { false }
  /// PxIS or PxIE has changed.
  var onInterrupt: () -> Void = {}

  /// Requests to the disk that have not come back.
  var inFlight = 0
  /// Changes whenever the host takes back what it has issued.
  var epoch: UInt64 = 0
  /// Changes with each power-on, which does not wait for what is in flight.
  private(set) var powerCycle: UInt64 = 0
  /// The slot of a command that is not queued, while it is at work.
  var busySlot: Int?
  /// Slots of queued commands at work.
  var queuedSlots: UInt32 = 0
  /// The queued command that failed first: the others come to their end before the host hears of it.
  var queueFailure: (tag: Int, outcome: ATAOutcome)?

  init(_ drive: ATADrive?) {
    self.drive = drive?.device
  }

  func attach(to platform: DevicePlatform) { self.platform = platform }

  /// Something is to be told: bits of PxIS that are enabled.
  var hasInterrupt: Bool { state.interruptStatus & state.interruptEnable != 0 }

  func raise(_ bits: UInt32) {
    state.interruptStatus |= bits
    onInterrupt()
  }

  // MARK: Registers

  func read(_ offset: UInt64) -> UInt32 {
    switch offset {
    case Register.commandList: UInt32(truncatingIfNeeded: state.commandList)
    case Register.commandListUpper: UInt32(truncatingIfNeeded: state.commandList >> 32)
    case Register.received: UInt32(truncatingIfNeeded: state.received)
    case Register.receivedUpper: UInt32(truncatingIfNeeded: state.received >> 32)
    case Register.interruptStatus: state.interruptStatus
    case Register.interruptEnable: state.interruptEnable
    case Register.command: command
    case Register.taskFile: state.taskFile
    case Register.signature: state.signature
    case Register.status: linkStatus
    case Register.control: state.control
    case Register.error: state.error
    case Register.active: state.active
    case Register.issue: state.issue
    default: 0
    }
  }

  private var command: UInt32 {
    var value = state.command | Command.spinUp | Command.powerOn | state.currentSlot << Command.slotShift
    if state.command & Command.receiveEnable != 0 { value |= Command.receiveRunning }
    if state.command & Command.start != 0 || inFlight > 0 { value |= Command.listRunning }
    return value
  }

  /// PxSSTS: a drive at 6 Gbit/s, active; no drive; the port is off, or the link is being reset.
  private var linkStatus: UInt32 {
    switch state.control & 0xf {
    case 0 where drive != nil: 0x133
    case 4: 0x004
    default: 0x000
    }
  }

  private func setLow(_ register: inout UInt64, _ value: UInt32) { register = register & ~0xffff_ffff | UInt64(value) }

  private func setHigh(_ register: inout UInt64, _ value: UInt32) {
    register = register & 0xffff_ffff | UInt64(value) << 32
  }

  func write(_ offset: UInt64, _ value: UInt32) {
    switch offset {
    case Register.commandList: setLow(&state.commandList, value & ~0x3ff)
    case Register.commandListUpper: setHigh(&state.commandList, value)
    case Register.received: setLow(&state.received, value & ~0xff)
    case Register.receivedUpper: setHigh(&state.received, value)
    case Register.interruptStatus:
      state.interruptStatus &= ~value
      onInterrupt()
    case Register.interruptEnable:
      state.interruptEnable = value & Interrupt.enables
      onInterrupt()
    case Register.command: writeCommand(value)
    case Register.control: writeControl(value)
    case Register.error: state.error &= ~value
    // Both can only be set, and only while the list is running.
    case Register.active: if state.command & Command.start != 0 { state.active |= value }
    case Register.issue:
      guard state.command & Command.start != 0 else { return }
      state.issue |= value
      beginCommands()
    default: break
    }
  }

  private func writeCommand(_ value: UInt32) {
    let before = state.command
    state.command = value & Command.kept
    if value & Command.listOverride != 0, before & Command.start == 0 {
      state.taskFile &= ~UInt32(ATAStatus.busy.union(.dataRequest).rawValue)
    }
    if state.command & Command.receiveEnable != 0 { receiveSignature() }
    if state.command & Command.start == 0, before & Command.start != 0 { stop() }
    if state.command & Command.start != 0 { beginCommands() }
  }

  /// The host takes back what it has issued.
  private func stop() {
    forgetCommands()
    (state.issue, state.currentSlot) = (0, 0)
    state.isHalted = false
  }

  /// What is at work comes back to nobody.
  private func forgetCommands() {
    epoch &+= 1
    state.active = 0
    (busySlot, queuedSlots, queueFailure) = (nil, 0, nil)
  }

  // MARK: The link

  /// PxSCTL: while DET is 1, the link is being reset; when it goes back to 0, the drive sends its signature.
  private func writeControl(_ value: UInt32) {
    let before = state.control & 0xf
    state.control = value & 0xfff
    let now = state.control & 0xf
    guard now != before else { return }
    if now == 1 || now == 4 {
      stop()
      state.taskFile = 0x7f
      state.signature = .max
      state.awaitsSignature = false
      state.isInReset = false
      drive?.reset(isHard: now == 1)
    } else if now == 0 {
      connect()
    }
  }

  /// The link comes up.
  private func connect() {
    guard drive != nil else { return }
    state.error |= AHCIRegister.Error.exchanged
    state.taskFile = UInt32(ATAStatus.busy.rawValue)
    state.awaitsSignature = true
    raise(Interrupt.connectChange)
    receiveSignature()
  }

  /// The drive's first frame after a reset, as soon as the host has a place for it and nothing else is under way.
  func receiveSignature() {
    guard let drive, state.awaitsSignature, !state.isInReset, inFlight == 0,
      state.command & Command.receiveEnable != 0
    else { return }
    state.awaitsSignature = false
    let outcome = drive.signature
    let registers = outcome.registers
    state.signature =
      UInt32(registers.count & 0xff) | UInt32(registers.low & 0xff) << 8 | UInt32(registers.mid & 0xff) << 16
      | UInt32(registers.high & 0xff) << 24
    post(outcome, interrupts: false)
  }

  /// Software reset, by the device control register.
  func writeDeviceControl(_ value: UInt8) {
    let isReset = value & 1 << 2 != 0
    if isReset, !state.isInReset {
      forgetCommands()
      drive?.reset(isHard: false)
    } else if !isReset, state.isInReset {
      state.awaitsSignature = true
    }
    state.isInReset = isReset
    receiveSignature()
  }

  // MARK: Power and state

  /// The state after power-on or a reset of the controller. What a disk still works on is forgotten, or (`keepsCount`)
  /// waited for.
  func reset(keepsCount: Bool) {
    stop()
    if !keepsCount {
      powerCycle &+= 1
      inFlight = 0
    }
    state = State()
    drive?.reset(isHard: true)
    if drive != nil { state.awaitsSignature = true }
  }

  func save() -> Snapshot { Snapshot(state: state, drive: drive?.save()) }

  func restore(_ snapshot: Snapshot) {
    reset(keepsCount: false)
    state = snapshot.state
    state.command &= Command.kept
    state.currentSlot &= 0x1f
    if let saved = snapshot.drive { drive?.restore(saved) }
  }
}
