import Machine

/// The ACPI fixed hardware of a PIIX4 (Intel 82371AB datasheet, 7.2; ACPI 6.5, 4.8): the power-management timer, power
/// button and general-purpose events with their system control interrupt, sleep and power-off, and the SMI command port.
///
/// On a PC, writing the SMI command port enters system-management mode, whose code switches the chip between ACPI and
/// legacy mode. There is no such code here: this device does what that code would do, which is to set or clear SCI_EN.
///
/// The timer is not counted but computed from the machine's clock, and so is its status bit: it is set when the top bit
/// has changed since it was last cleared. Only while the guest has enabled the timer's interrupt does a clock timer run,
/// armed at the next such change.
///
/// Region 0: 64 ports (0x600 to 0x63f, as the firmware's tables say: see `ACPIFixedHardware` in Firmware and the
/// PIIX4's PMBA register). Region 1: SMI command and its data (0xb2 and 0xb3). Interrupt line: the SCI, level, GSI 9.
public final class PowerManagement: Device {
  /// Values of SLP_TYP that this chip takes (82371AB datasheet, PMCNTRL).
  public enum SleepType {
    /// S5.
    public static let softOff: UInt8 = 0
    /// S3.
    public static let suspendToRAM: UInt8 = 1
  }

  /// Values for the SMI command port.
  public enum Command {
    public static let enableACPI: UInt8 = 0xf1
    public static let disableACPI: UInt8 = 0xf0
  }

  /// In Hz.
  public static let timerFrequency: UInt64 = 3_579_545

  public let name = "power-management"
  private let line: InterruptLine
  private let timerWidth: UInt64
  private var platform: DevicePlatform?
  private var timer: (any ClockTimer)?
  private var state = State()
  private var errors = GuestErrorLog(device: "power-management")

  /// `timerWidth` is 24 or 32 bits.
  public init(interrupt line: InterruptLine, timerWidth: Int = 32) {
    precondition(timerWidth == 24 || timerWidth == 32, "the ACPI timer has 24 or 32 bits")
    self.line = line
    self.timerWidth = UInt64(timerWidth)
  }

  public func attach(to platform: DevicePlatform) {
    self.platform = platform
    errors.start(platform.log)
    timer = platform.clock.makeTimer("power-management timer") { [unowned self] in eventsChanged() }
  }

  public func reset() {
    let causes = state.wakeCauses
    state = State()
    state.wakeCauses = causes
    state.timerCarries = carries
    eventsChanged()
  }

  public func save() -> State { state }

  public func restore(_ state: State) {
    self.state = state
    eventsChanged()
  }

  // MARK: The host's side

  /// Somebody pressed and released the power button: an operating system that wants to know shuts down.
  public func pressPowerButton() {
    guard let platform, !platform.inputs.receive([1], source: "\(name) button").isEmpty else { return }
    state.pm1Status |= PM1Event.powerButton
    eventsChanged()
  }

  /// General-purpose event `number`, 0 to 15, has happened (ACPI method \_GPE._Lxx or _Exx).
  public func raiseGeneralPurposeEvent(_ number: Int) {
    guard (0..<16).contains(number) else { return }
    state.generalStatus |= 1 << UInt16(number)
    eventsChanged()
  }

  /// The real-time clock's alarm has gone off.
  public func noteAlarm() {
    state.pm1Status |= PM1Event.realTimeClock
    eventsChanged()
  }

  /// The machine has left a sleeping state, by way of a reset.
  public func wake() {
    state.pm1Status |= PM1Event.wake | state.wakeCauses
    state.wakeCauses = 0
    eventsChanged()
  }

  // MARK: Registers

  public func read(region: Int, offset: UInt64, size: Int) -> UInt64 {
    if region == 1 {
      return ByteCycles.read(offset: offset, size: size) {
        switch $0 {
        case 0: state.command
        case 1: state.commandData
        default: 0xff
        }
      }
    }
    // One moment for the whole access, so that the timer is read in one piece.
    let ticks = self.ticks
    return ByteCycles.read(offset: offset, size: size) { offset in
      UInt8(truncatingIfNeeded: word(offset & ~1, ticks: ticks) >> (8 * UInt16(offset & 1)))
    }
  }

  public func write(region: Int, offset: UInt64, size: Int, value: UInt64) {
    ByteCycles.write(offset: offset, size: size, value: value) { offset, byte in
      if region == 1 {
        writeCommand(offset, byte)
      } else {
        let shift = 8 * UInt16(offset & 1)
        writeWord(offset & ~1, UInt16(byte) << shift, mask: 0xff << shift)
      }
    }
    eventsChanged()
  }

  /// Registers of the chip that are not here (throttling, device monitors, general-purpose pins) read as zero.
  private func word(_ offset: UInt64, ticks: UInt64) -> UInt16 {
    switch offset {
    case Register.pm1Status: pm1Status
    case Register.pm1Enable: state.pm1Enable
    case Register.pm1Control: state.pm1Control
    case Register.timer: UInt16(truncatingIfNeeded: ticks)
    case Register.timer + 2: UInt16(truncatingIfNeeded: (ticks & ((1 << timerWidth) - 1)) >> 16)
    case Register.generalStatus: state.generalStatus
    case Register.generalEnable: state.generalEnable
    default: 0
    }
  }

  private func writeWord(_ offset: UInt64, _ value: UInt16, mask: UInt16) {
    switch offset {
    case Register.pm1Status:
      state.pm1Status &= ~value
      if value & PM1Event.timer != 0 { state.timerCarries = carries }
    case Register.pm1Enable: state.pm1Enable = state.pm1Enable & ~mask | value & PM1Event.enables
    case Register.pm1Control:
      state.pm1Control = state.pm1Control & ~mask | value & PM1Control.kept
      if value & PM1Control.sleepEnable != 0 { sleep() }
    case Register.generalStatus: state.generalStatus &= ~value
    case Register.generalEnable: state.generalEnable = state.generalEnable & ~mask | value
    default: break
    }
  }

  private func writeCommand(_ offset: UInt64, _ value: UInt8) {
    switch offset {
    case 0:
      state.command = value
      if value == Command.enableACPI { state.pm1Control |= PM1Control.interruptEnable }
      if value == Command.disableACPI { state.pm1Control &= ~PM1Control.interruptEnable }
    case 1: state.commandData = value
    default: break
    }
  }

  private func sleep() {
    switch UInt8(truncatingIfNeeded: (state.pm1Control & PM1Control.sleepType) >> 10) {
    case SleepType.softOff: platform?.request(.powerOff)
    case SleepType.suspendToRAM:
      state.isAsleep = true
      platform?.request(.suspend)
    case let type: errors.note("sleep type \(type) is not offered")
    }
  }

  // MARK: Timer and interrupt

  /// The timer since the machine started, not yet cut to its width.
  private var ticks: UInt64 {
    scale(platform?.clock.now ?? 0, by: Self.timerFrequency, over: nanosecondsPerSecond)
  }

  /// How often the timer's top bit has changed.
  private var carries: UInt64 { ticks >> (timerWidth - 1) }

  private var pm1Status: UInt16 { state.pm1Status | (carries != state.timerCarries ? PM1Event.timer : 0) }

  /// Ends a suspension if an event has happened that is to do so. The power button always is.
  private func wakeIfNeeded() {
    guard state.isAsleep else { return }
    let causes = state.pm1Status & (state.pm1Enable | PM1Event.powerButton) & PM1Event.wakes
    guard causes != 0 || state.generalStatus & state.generalEnable != 0 else { return }
    state.isAsleep = false
    state.wakeCauses = causes
    platform?.request(.wake)
  }

  /// Drives the interrupt and, while the timer is to raise it, arms the clock for its next carry.
  private func eventsChanged() {
    wakeIfNeeded()
    let isACPI = state.pm1Control & PM1Control.interruptEnable != 0
    let pending = pm1Status & state.pm1Enable != 0 || state.generalStatus & state.generalEnable != 0
    line.set(isACPI && pending)
    if isACPI, state.pm1Enable & PM1Event.timer != 0, carries == state.timerCarries {
      timer?.arm(at: time(ofCarry: carries &+ 1))
    } else {
      timer?.cancel()
    }
  }

  /// The first nanosecond at which the timer's top bit has changed `carry` times; the far end of time if it never will.
  private func time(ofCarry carry: UInt64) -> UInt64 {
    let (ticks, overflow) = carry.multipliedReportingOverflow(by: 1 << (timerWidth - 1))
    return overflow ? .max : scaleUp(ticks, by: nanosecondsPerSecond, over: Self.timerFrequency)
  }
}
