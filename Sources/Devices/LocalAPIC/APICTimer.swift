import Machine

/// The timer of one local APIC (SDM vol. 3A, 11.5.4): one-shot, periodic and TSC-deadline.
///
/// Nothing counts: the state is the count at one moment, and the current count follows from the clock. A host timer is
/// armed for the next expiry only. `settle` brings the state up to now and is called before everything that reads or
/// changes it, so that an expiry is neither lost nor late when the host timer is.
final class APICTimer {
  /// Bits 18:17 of the LVT timer entry.
  enum Mode: UInt8, Codable {
    case oneShot = 0
    case periodic = 1
    case deadline = 2
    /// Reserved by the manual: the timer stands still.
    case reserved = 3
  }

  struct State: Codable {
    var mode = Mode.oneShot
    var isMasked = true
    /// The initial-count register.
    var initialCount: UInt32 = 0
    /// The divide-configuration register.
    var divideConfiguration: UInt32 = 0
    /// The count at `base` (nanoseconds); zero: stopped.
    var count: UInt32 = 0
    var base: UInt64 = 0
    /// IA32_TSC_DEADLINE; zero: not armed.
    var deadline: UInt64 = 0
    /// What this processor's time-stamp counter is ahead of the clock's.
    var timeStampOffset: UInt64 = 0
  }

  /// Ticks of the undivided timer in a second: one for each nanosecond of the clock.
  static let frequency: UInt64 = 1_000_000_000
  /// A periodic timer with a shorter period (ns) reports at this interval: a guest must not keep the host from running
  /// anything but its timer. The count that the guest reads keeps to the real period.
  static let minimumInterval: UInt64 = 10_000

  @exclusivity(unchecked) private(set) var state = State()
  private let clock: any Clock
  private let expire: () -> Void
  @exclusivity(unchecked) private var hostTimer: (any ClockTimer)!

  /// - Parameter expire: called at each expiry that a host timer or an access notices, masked or not.
  init(name: String, processor: Int, clock: any Clock, expire: @escaping () -> Void) {
    self.clock = clock
    self.expire = expire
    hostTimer = clock.makeTimer(name, processor: processor) { [unowned self] in
      if !settle() { arm() }
    }
  }

  /// State after power-up and INIT. The time-stamp counter goes on.
  func reset() {
    state = State(timeStampOffset: state.timeStampOffset)
    hostTimer.cancel()
  }

  func restore(_ state: State) {
    self.state = state
    arm()
  }

  // MARK: Registers

  /// The current-count register.
  var currentCount: UInt32 {
    settle()
    guard state.count != 0 else { return 0 }
    return state.count &- UInt32(truncatingIfNeeded: elapsedTicks)
  }

  /// Follows the mode and mask of the LVT timer entry. A change to or from TSC-deadline mode disarms the timer; a change
  /// between one-shot and periodic lets it count on (SDM vol. 3A, 11.5.4.1).
  func configure(mode: Mode, isMasked: Bool) {
    settle()
    if mode != state.mode {
      if mode == .oneShot && state.mode == .periodic || mode == .periodic && state.mode == .oneShot {
        rebase()
      } else {
        state.initialCount = 0
        state.count = 0
        state.deadline = 0
      }
      state.mode = mode
    }
    state.isMasked = isMasked
    arm()
  }

  /// Writes the initial-count register and so starts the timer; zero stops it. Ignored in TSC-deadline mode.
  func start(count: UInt32) {
    guard state.mode != .deadline else { return }
    settle()
    state.initialCount = count
    state.count = state.mode == .reserved ? 0 : count
    state.base = clock.now
    arm()
  }

  /// Writes the divide-configuration register. A running count goes on from where it is at the new rate.
  func setDivideConfiguration(_ value: UInt32) {
    settle()
    rebase()
    state.base = clock.now
    state.divideConfiguration = value & 0b1011
    arm()
  }

  /// IA32_TSC_DEADLINE: zero when disarmed, expired or not in TSC-deadline mode. Writes are ignored outside that mode.
  var deadline: UInt64 {
    get {
      settle()
      return state.deadline
    }
    set {
      guard state.mode == .deadline else { return }
      state.deadline = newValue
      settle()
      arm()
    }
  }

  /// The processor's time-stamp counter was written or adjusted; a pending deadline moves with it.
  func setTimeStampOffset(_ offset: UInt64) {
    guard offset != state.timeStampOffset else { return }
    settle()
    state.timeStampOffset = offset
    settle()
    if state.mode == .deadline { arm() }
  }

  // MARK: Time

  /// Nanoseconds in a tick (table in SDM vol. 3A, figure 11-10).
  private var divisor: UInt64 {
    let code = state.divideConfiguration & 3 | (state.divideConfiguration >> 1) & 4
    return 1 << UInt64((code + 1) & 7)
  }

  private var elapsedTicks: UInt64 { (clock.now &- state.base) / divisor }

  private var expiry: UInt64 { state.base &+ UInt64(state.count) &* divisor }

  private var timeStamp: UInt64 { clock.timeStamp &+ state.timeStampOffset }

  /// Takes the ticks since `base` into the count; nothing may have expired.
  private func rebase() {
    guard state.count != 0 else { return }
    let ticks = elapsedTicks
    state.count &-= UInt32(truncatingIfNeeded: ticks)
    state.base &+= ticks &* divisor
  }

  /// Lets happen what is due by now. False where nothing is.
  @discardableResult private func settle() -> Bool {
    switch state.mode {
    case .oneShot:
      guard state.count != 0, clock.now >= expiry else { return false }
      state.count = 0
    case .periodic:
      let now = clock.now
      guard state.count != 0, now >= expiry else { return false }
      // Periods that went by unnoticed are one interrupt: the IRR could not tell them apart either.
      let period = max(1, UInt64(state.initialCount) &* divisor)
      state.base = now &- (now &- expiry) % period
      state.count = max(1, state.initialCount)
    case .deadline:
      guard state.deadline != 0, timeStamp >= state.deadline else { return false }
      state.deadline = 0
    case .reserved: return false
    }
    arm()
    expire()
    return true
  }

  /// Arms the host timer for the next expiry. A masked periodic timer needs none: nobody can tell when it expires.
  private func arm() {
    switch state.mode {
    case .oneShot where state.count != 0:
      hostTimer.arm(at: expiry)
    case .periodic where state.count != 0 && !state.isMasked:
      let isShort = UInt64(state.initialCount) &* divisor < Self.minimumInterval
      hostTimer.arm(at: isShort ? max(expiry, clock.now &+ Self.minimumInterval) : expiry)
    case .deadline where state.deadline != 0:
      let ticks = state.deadline &- min(timeStamp, state.deadline)
      let delay = scaleUp(ticks, by: nanosecondsPerSecond, over: clock.timeStampFrequency)
      let (sum, overflow) = clock.now.addingReportingOverflow(delay)
      hostTimer.arm(at: overflow ? .max : sum)
    default:
      hostTimer.cancel()
    }
  }
}
