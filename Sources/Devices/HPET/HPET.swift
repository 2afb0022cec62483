import Machine

/// A high-precision event timer with three timers (Intel, "IA-PC HPET Specification" 1.0a): a 64-bit counter of 100 MHz and
/// comparators that interrupt once or periodically, by pins of the I/O APIC or, by legacy routes, in place of the PIT and
/// the real-time clock.
///
/// The counter is not counted but computed from the machine's clock. A comparator arms a clock timer for when the counter
/// reaches it. Timers that interrupt more often than every `leastPeriod` do so at that period. Messages instead of pins
/// ("FSB interrupts") are not offered.
///
/// Region 0: 1024 bytes of memory. Registers take accesses of 4 and 8 bytes that are aligned.
public final class HPET: Device {
  /// In femtoseconds.
  private static let tick: UInt64 = 10_000_000
  private static let nanosecondsPerTick: UInt64 = 10
  /// Nanoseconds.
  private static let leastPeriod: UInt64 = 20_000
  public static let timerCount = 3
  public static let size: UInt64 = 1024
  /// The I/O APIC's pins that a timer can be routed to.
  public static let pins = 20..<24

  private enum Register {
    static let capabilities: UInt64 = 0x000
    static let configuration: UInt64 = 0x010
    static let status: UInt64 = 0x020
    static let counter: UInt64 = 0x0f0
    static let timers: UInt64 = 0x100
    static let timerSize: UInt64 = 0x20
  }

  private enum Configuration {
    static let isEnabled: UInt64 = 1 << 0
    static let routesLegacy: UInt64 = 1 << 1
  }

  /// Bits of a timer's configuration.
  private enum TimerBit {
    static let isLevel: UInt64 = 1 << 1
    static let interrupts: UInt64 = 1 << 2
    static let isPeriodic: UInt64 = 1 << 3
    static let setsAccumulator: UInt64 = 1 << 6
    static let is32Bit: UInt64 = 1 << 8
    static let route: UInt64 = 0x1f << 9
    /// Periods and 64 bits are offered.
    static let capabilities: UInt64 = 1 << 4 | 1 << 5 | (0xf << UInt64(pins.lowerBound)) << 32
    static let writable = isLevel | interrupts | isPeriodic | setsAccumulator | is32Bit | route
  }

  public struct Timer: Codable, Equatable, Sendable {
    var configuration: UInt64 = 0
    var comparator = UInt64.max
    var period: UInt64 = 0
  }

  public struct State: Codable, Equatable, Sendable {
    var configuration: UInt64 = 0
    var status: UInt64 = 0
    /// The counter when it was last stopped or set, and when that was, in nanoseconds.
    var counter: UInt64 = 0
    var countedFrom: UInt64 = 0
    var timers = [Timer](repeating: Timer(), count: HPET.timerCount)
  }

  public let name = "hpet"
  private let line: (_ pin: Int) -> InterruptLine
  private let legacy: [LegacyTimerLine]
  private var clock: (any Clock)?
  private var clockTimers: [any ClockTimer] = []
  private var state = State()

  /// `line` gives the I/O APIC's lines; `legacy` are the lines of interrupts 0 and 8, which the first two timers can take
  /// over.
  public init(line: @escaping (_ pin: Int) -> InterruptLine, legacy: [LegacyTimerLine]) {
    precondition(legacy.count == 2, "two timers have legacy routes")
    self.line = line
    self.legacy = legacy
  }

  public func attach(to platform: DevicePlatform) {
    clock = platform.clock
    clockTimers = (0..<Self.timerCount).map { number in
      platform.clock.makeTimer("hpet timer \(number)") { [unowned self] in expire(number) }
    }
  }

  public func reset() { restore(State()) }

  public func save() -> State { state }

  public func restore(_ state: State) {
    for number in self.state.timers.indices { release(number) }
    self.state = state
    self.state.timers = state.timers.resized(to: Self.timerCount, with: Timer())
    routesChanged()
    for number in 0..<Self.timerCount {
      if state.status & 1 << UInt64(number) != 0 { drive(number, true) }
      arm(number)
    }
  }

  // MARK: Counter

  private var isEnabled: Bool { state.configuration & Configuration.isEnabled != 0 }

  private var counter: UInt64 {
    guard isEnabled, let clock else { return state.counter }
    return state.counter &+ (clock.now &- state.countedFrom) / Self.nanosecondsPerTick
  }

  private func setCounter(_ value: UInt64) {
    state.counter = value
    state.countedFrom = clock?.now ?? 0
  }

  // MARK: Registers

  public func read(region: Int, offset: UInt64, size: Int) -> UInt64 {
    guard size == 4 || size == 8, offset & UInt64(size - 1) == 0 else { return .max }
    let value = register(offset & ~7)
    return size == 8 ? value : value >> (8 * (offset & 4)) & 0xffff_ffff
  }

  private func register(_ offset: UInt64) -> UInt64 {
    switch offset {
    // Vendor Intel, legacy routes, 64-bit counter, three timers, revision 1.
    case Register.capabilities: return Self.tick << 32 | 0x8086_a201
    case Register.configuration: return state.configuration
    case Register.status: return state.status
    case Register.counter: return counter
    default:
      guard let (number, register) = timerRegister(offset) else { return 0 }
      let timer = state.timers[number]
      switch register {
      case 0: return timer.configuration | TimerBit.capabilities
      case 8: return timer.configuration & TimerBit.is32Bit != 0 ? timer.comparator & 0xffff_ffff : timer.comparator
      default: return 0
      }
    }
  }

  private func timerRegister(_ offset: UInt64) -> (number: Int, register: UInt64)? {
    guard offset >= Register.timers, offset < Register.timers + Register.timerSize * UInt64(Self.timerCount) else {
      return nil
    }
    return (Int((offset - Register.timers) / Register.timerSize), offset % Register.timerSize)
  }

  public func write(region: Int, offset: UInt64, size: Int, value: UInt64) {
    guard size == 4 || size == 8, offset & UInt64(size - 1) == 0 else { return }
    let shift = 8 * (offset & 4)
    let mask = size == 8 ? UInt64.max : 0xffff_ffff << shift
    setRegister(offset & ~7, value << shift, mask: mask)
  }

  /// Writes the bits of a register that are in `mask`.
  private func setRegister(_ offset: UInt64, _ value: UInt64, mask: UInt64) {
    switch offset {
    case Register.configuration:
      let new = state.configuration & ~mask | value & mask & (Configuration.isEnabled | Configuration.routesLegacy)
      let counter = counter
      state.configuration = new
      setCounter(counter)
      routesChanged()
      for number in 0..<Self.timerCount { arm(number) }
    case Register.status:
      for number in 0..<Self.timerCount where value & mask & state.status & 1 << UInt64(number) != 0 {
        release(number)
      }
    case Register.counter:
      // It is writable while it stands.
      if !isEnabled { setCounter(state.counter & ~mask | value & mask) }
    default:
      guard let (number, register) = timerRegister(offset) else { return }
      if register == 0 { setConfiguration(number, value, mask: mask) }
      if register == 8 { setComparator(number, value, mask: mask) }
      arm(number)
    }
  }

  private func setConfiguration(_ number: Int, _ value: UInt64, mask: UInt64) {
    let old = state.timers[number].configuration
    var new = old & ~mask | value & mask & TimerBit.writable
    // A route that is not offered is none.
    if !Self.pins.contains(Int((new & TimerBit.route) >> 9)) { new = new & ~TimerBit.route | old & TimerBit.route }
    // What is asserted goes with the way it was asserted.
    if (new ^ old) & (TimerBit.isLevel | TimerBit.interrupts | TimerBit.route) != 0 { release(number) }
    state.timers[number].configuration = new
  }

  /// The comparator. Of a periodic timer it is the period, too, and only that unless the write was announced by
  /// "sets accumulator" (2.3.9.2.2).
  private func setComparator(_ number: Int, _ value: UInt64, mask: UInt64) {
    var timer = state.timers[number]
    let isPeriodic = timer.configuration & TimerBit.isPeriodic != 0
    if !isPeriodic || timer.configuration & TimerBit.setsAccumulator != 0 {
      timer.comparator = timer.comparator & ~mask | value & mask
    }
    if isPeriodic { timer.period = timer.period & ~mask | value & mask }
    if timer.configuration & TimerBit.is32Bit != 0 { timer.period &= 0xffff_ffff }
    timer.configuration &= ~TimerBit.setsAccumulator
    state.timers[number] = timer
  }

  // MARK: Interrupts

  /// Ticks until the counter next equals the comparator.
  private func distance(_ timer: Timer) -> UInt64 {
    let ticks = timer.comparator &- counter
    return timer.configuration & TimerBit.is32Bit != 0 ? ticks & 0xffff_ffff : ticks
  }

  private func arm(_ number: Int) {
    guard clockTimers.indices.contains(number), let clock else { return }
    let timer = state.timers[number]
    guard isEnabled, timer.configuration & TimerBit.interrupts != 0 else { return clockTimers[number].cancel() }
    let (wait, overflow) = distance(timer).multipliedReportingOverflow(by: Self.nanosecondsPerTick)
    let (deadline, isNever) = clock.now.addingReportingOverflow(wait)
    guard !overflow, !isNever else { return clockTimers[number].cancel() }
    clockTimers[number].arm(at: deadline)
  }

  /// The counter has reached a comparator.
  private func expire(_ number: Int) {
    guard let clock else { return }
    var timer = state.timers[number]
    if timer.configuration & TimerBit.isLevel != 0 {
      state.status |= 1 << UInt64(number)
      drive(number, true)
    } else {
      drive(number, true)
      drive(number, false)
    }
    guard timer.configuration & TimerBit.isPeriodic != 0, timer.period > 0 else {
      // Once round the counter.
      if timer.configuration & TimerBit.is32Bit != 0 {
        clockTimers[number].arm(at: clock.now &+ (1 << 32) * Self.nanosecondsPerTick)
      }
      return
    }
    // The next multiple of the period that is still to come.
    let late = (counter &- timer.comparator) & (timer.configuration & TimerBit.is32Bit != 0 ? 0xffff_ffff : .max)
    timer.comparator &+= (late / timer.period &+ 1) &* timer.period
    state.timers[number] = timer
    let (wait, overflow) = distance(timer).multipliedReportingOverflow(by: Self.nanosecondsPerTick)
    let (deadline, isNever) = clock.now.addingReportingOverflow(max(wait, Self.leastPeriod))
    guard !overflow, !isNever else { return clockTimers[number].cancel() }
    clockTimers[number].arm(at: deadline)
  }

  private var routesLegacy: Bool { state.configuration & Configuration.routesLegacy != 0 }

  private func drive(_ number: Int, _ level: Bool) {
    let timer = state.timers[number]
    guard !level || timer.configuration & TimerBit.interrupts != 0 else { return }
    if routesLegacy, number < legacy.count { return legacy[number].setTimer(level) }
    let pin = Int((timer.configuration & TimerBit.route) >> 9)
    if Self.pins.contains(pin) { line(pin).set(level) }
  }

  /// Takes a timer's level back.
  private func release(_ number: Int) {
    guard state.status & 1 << UInt64(number) != 0 else { return }
    state.status &= ~(1 << UInt64(number))
    drive(number, false)
  }

  private func routesChanged() {
    for line in legacy { line.isTaken = isEnabled && routesLegacy }
  }
}
