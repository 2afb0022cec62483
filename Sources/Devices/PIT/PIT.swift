import Machine

/// The PC's 8254 programmable interval timer with the system control port around its third counter.
///
/// Counter 0 interrupts (interrupt 0), counter 1 once timed the refresh of memory, counter 2 drives the speaker. All three
/// run at 1.193182 MHz. The gates of the first two are high; port 0x61 holds the third's.
///
/// A timer of the host's is armed for the next rising edge of counter 0's output; falling edges are made up just before,
/// because nothing on a PC looks at this wire's level. Edges that came while the host was busy become one.
///
/// Regions: 0 the four ports 0x40 to 0x43; 1 port 0x61.
public final class PIT {
  /// Hz.
  public static let frequency: UInt64 = 1_193_182
  /// A faster counter 0 interrupts at this interval (ns): a guest must not keep the host from running anything else.
  private static let minimumInterval: UInt64 = 10_000
  private static let minimumPeriod = minimumInterval * frequency / nanosecondsPerSecond

  private let line: InterruptLine
  private var platform: DevicePlatform!
  private var timer: (any ClockTimer)!
  private var state = State()

  /// - Parameter line: counter 0's output.
  public init(line: InterruptLine) {
    self.line = line
  }

  /// Clock pulses since the machine was started.
  private var tick: UInt64 { scale(platform.clock.now, by: Self.frequency, over: nanosecondsPerSecond) }

  /// Brings everything up to now and gives the current tick.
  private func catchUp() -> UInt64 {
    let tick = tick
    for index in state.ports.indices { state.ports[index].channel.settle(tick) }
    if let due = state.nextRise, tick >= due {
      setLine(false)
      setLine(true)
      follow(tick)
    }
    return tick
  }

  /// Takes counter 0's output to its line and arms the timer for its next edge.
  private func follow(_ tick: UInt64) {
    let channel = state.ports[0].channel
    setLine(channel.output(tick))
    state.nextRise = channel.nextRise(after: tick)
    arm()
  }

  private func setLine(_ level: Bool) {
    guard level != state.lineLevel else { return }
    state.lineLevel = level
    line.set(level)
  }

  private func arm() {
    guard let next = state.nextRise else {
      timer.cancel()
      return
    }
    let deadline = scaleUp(next, by: nanosecondsPerSecond, over: Self.frequency)
    let isFast = state.ports[0].channel.period < Self.minimumPeriod
    timer.arm(at: isFast ? max(deadline, platform.clock.now &+ Self.minimumInterval) : deadline)
  }

  // MARK: Registers

  private func writeControl(_ value: UInt8, _ tick: UInt64) {
    let selected = Int(value >> 6)
    if selected == 3 {
      for index in 0..<3 where value & 2 << UInt8(index) != 0 {
        if value & 0x20 == 0 { state.ports[index].latchCount(tick) }
        if value & 0x10 == 0 { state.ports[index].latchStatus(tick) }
      }
    } else if value & 0x30 == 0 {
      state.ports[selected].latchCount(tick)
    } else {
      state.ports[selected].setControl(value)
      if selected == 0 { follow(tick) }
    }
  }

  /// Port 0x61: gate of counter 2 (0), speaker (1), checks disabled (2, 3), refresh toggle (4), output of counter 2 (5).
  private func readSystemControl(_ tick: UInt64) -> UInt8 {
    // Memory was refreshed every 18 ticks, 15 microseconds; the bit changes with each refresh.
    let refresh: UInt8 = tick / 18 & 1 != 0 ? 0x10 : 0
    return state.systemControl | refresh | (state.ports[2].channel.output(tick) ? 0x20 : 0)
  }
}

extension PIT: Device {
  public struct State: Codable {
    var ports = [PITPort(gate: true), PITPort(gate: true), PITPort(gate: false)]
    /// Bits 3:0 of port 0x61.
    var systemControl: UInt8 = 0
    /// What counter 0's line was last set to: not always the output, see above.
    var lineLevel = false
    /// Tick of counter 0's next rising edge.
    var nextRise: UInt64?
  }

  public var name: String { "pit" }

  public func attach(to platform: DevicePlatform) {
    self.platform = platform
    timer = platform.clock.makeTimer("pit") { [unowned self] in _ = catchUp() }
  }

  /// No counter counts until it is programmed.
  public func reset() {
    state = State(lineLevel: state.lineLevel)
    follow(tick)
  }

  public func read(region: Int, offset: UInt64, size: Int) -> UInt64 {
    let tick = catchUp()
    switch (region, offset) {
    case (0, 0...2): return UInt64(state.ports[Int(offset)].read(tick))
    case (1, 0): return UInt64(readSystemControl(tick))
    default: return 0xff
    }
  }

  public func write(region: Int, offset: UInt64, size: Int, value: UInt64) {
    let tick = catchUp()
    let byte = UInt8(truncatingIfNeeded: value)
    switch (region, offset) {
    case (0, 0...2):
      state.ports[Int(offset)].write(byte, tick)
      if offset == 0 { follow(tick) }
    case (0, 3): writeControl(byte, tick)
    case (1, 0):
      state.systemControl = byte & 0xf
      state.ports[2].channel.setGate(byte & 1 != 0, tick)
    default: break
    }
  }

  public func save() -> State { state }

  public func restore(_ state: State) {
    self.state = state
    self.state.ports = state.ports.resized(to: 3, with: PITPort(gate: true))
    line.set(state.lineLevel)
    arm()
  }
}
