/// One counter of the 8254 (Intel 82C54 data sheet, order number 231244): its count, output and mode.
///
/// Time is the number of clock pulses ("ticks") since the machine was started. Nothing counts: what is kept is when the
/// counting element was loaded and with what, and count and output follow from the ticks since. `settle` lets a new count
/// take over that waited for the end of a cycle; it comes before everything else.
struct PITChannel: Codable {
  /// The control word's low six bits, as the status byte shows them: access (5:4), mode (3:1), BCD (0).
  private(set) var control: UInt8 = 0x30
  private(set) var gate: Bool
  /// Whether the counting element has been loaded since the control word.
  private var isLoaded = false
  /// The count that it was loaded with, 1 to 65536. Zero: no count since the control word.
  private var reload: UInt64 = 0
  /// A count that waits for the end of the cycle (modes 2 and 3) or for a trigger (any mode but 0 and 4).
  private var nextReload: UInt64?
  /// When `nextReload` takes over in modes 2 and 3, and whether that is in the middle of a square wave's cycle.
  private var switchTick: UInt64 = 0
  private var switchesInMiddle = false
  /// Counting goes on from `counted` at this tick. Nil: the gate suspends it.
  private var resumeTick: UInt64?
  private var counted: UInt64 = 0
  /// When the last count arrives in the counting element.
  private var loadTick: UInt64 = 0

  /// - Parameter gate: level of the gate input.
  init(gate: Bool) {
    self.gate = gate
  }

  /// 0 to 5; 6 and 7 are other names of 2 and 3.
  var mode: UInt8 {
    let bits = (control >> 1) & 7
    return bits > 5 ? bits - 4 : bits
  }

  /// Ticks between interrupts in the modes that repeat (2 and 3), otherwise more than any.
  var period: UInt64 { mode == 2 || mode == 3 ? reload : .max }

  var access: UInt8 { control >> 4 }

  private var countsDecimally: Bool { control & 1 != 0 }
  private var modulus: UInt64 { countsDecimally ? 10_000 : 65_536 }
  /// Ticks of a square wave's cycle for which the output is high.
  private var highTicks: UInt64 { (reload &+ 1) / 2 }

  /// Ticks counted since the counting element was loaded.
  private func elapsed(_ tick: UInt64) -> UInt64 {
    guard let resumeTick, tick > resumeTick else { return counted }
    return counted &+ (tick - resumeTick)
  }

  mutating func settle(_ tick: UInt64) {
    guard let next = nextReload, isLoaded, resumeTick != nil, mode == 2 || mode == 3, tick >= switchTick else { return }
    reload = next
    nextReload = nil
    resumeTick = switchTick
    counted = switchesInMiddle ? highTicks : 0
  }

  // MARK: What it shows

  func output(_ tick: UInt64) -> Bool {
    guard isLoaded, reload != 0 else { return mode != 0 }
    let elapsed = elapsed(tick)
    switch mode {
    case 0, 1: return elapsed >= reload
    case 2: return !gate || elapsed % reload != reload - 1
    case 3: return !gate || elapsed % reload < highTicks
    default: return elapsed != reload
    }
  }

  /// The counting element, as it is read: binary or four BCD digits.
  func count(_ tick: UInt64) -> UInt16 {
    guard isLoaded, reload != 0 else { return 0 }
    let elapsed = elapsed(tick)
    let value: UInt64
    switch mode {
    case 2:
      value = reload - elapsed % reload
    case 3:
      let phase = elapsed % reload
      // It counts by twos, once through for each half of the cycle.
      value = (reload & ~1) &- 2 &* (phase < highTicks ? phase : phase - highTicks)
    default:
      value = (reload &+ modulus &- elapsed % modulus) % modulus
    }
    return countsDecimally ? Self.decimal(value % modulus) : UInt16(truncatingIfNeeded: value)
  }

  /// The status byte of the read-back command.
  func status(_ tick: UInt64) -> UInt8 {
    let isNull = !isLoaded || nextReload != nil || tick < loadTick
    return (output(tick) ? 0x80 : 0) | (isNull ? 0x40 : 0) | control
  }

  /// The first tick after `tick` at which the output rises, if nobody interferes.
  func nextRise(after tick: UInt64) -> UInt64? {
    guard isLoaded, reload != 0, let resumeTick else { return nil }
    let start = max(tick, resumeTick)
    let elapsed = elapsed(tick)
    switch mode {
    case 0, 1:
      return elapsed < reload ? start &+ (reload - elapsed) : nil
    case 2, 3:
      if let nextReload, mode == 3 {
        if !switchesInMiddle { return switchTick }
        return nextReload >= 2 ? switchTick &+ nextReload / 2 : nil
      }
      return reload >= 2 ? start &+ (reload - elapsed % reload) : nil
    default:
      return elapsed <= reload ? start &+ (reload - elapsed) &+ 1 : nil
    }
  }

  // MARK: What is done to it

  mutating func setControl(_ bits: UInt8) {
    self = PITChannel(gate: gate)
    control = bits & 0x3f
  }

  /// The first byte of a count stops mode 0 and takes its output low.
  mutating func beginCount() {
    if mode == 0 { isLoaded = false }
  }

  /// A whole count was written. The counting element takes it over with the next clock pulse, with the trigger, or at the
  /// end of the cycle.
  mutating func setCount(_ bits: UInt16, _ tick: UInt64) {
    let value = countsDecimally ? Self.binary(bits) : UInt64(bits)
    let count = value == 0 ? modulus : value
    switch mode {
    case 1, 5:
      nextReload = count
    case 2 where isLoaded, 3 where isLoaded:
      nextReload = count
      planSwitch(tick)
    default:
      load(count, tick)
    }
  }

  private mutating func load(_ count: UInt64, _ tick: UInt64) {
    reload = count
    nextReload = nil
    isLoaded = true
    counted = 0
    loadTick = tick &+ 1
    resumeTick = gate || mode == 1 || mode == 5 ? loadTick : nil
  }

  private mutating func planSwitch(_ tick: UInt64) {
    guard let resumeTick else { return }
    let start = max(tick, resumeTick)
    let phase = elapsed(tick) % max(1, reload)
    switchesInMiddle = mode == 3 && phase < highTicks
    switchTick = start &+ ((switchesInMiddle ? highTicks : reload) - phase)
  }

  mutating func setGate(_ level: Bool, _ tick: UInt64) {
    guard level != gate else { return }
    gate = level
    switch (mode, level) {
    case (0, true), (4, true):
      if isLoaded { resumeTick = max(tick, loadTick) }
    case (1, true), (5, true):
      let count = nextReload ?? reload
      if count != 0 { load(count, tick) }
    case (2, true), (3, true):
      if isLoaded { load(nextReload ?? reload, tick) }
    case (0, false), (2, false), (3, false), (4, false):
      counted = elapsed(tick)
      resumeTick = nil
    default: break
    }
  }

  // MARK: Binary-coded decimal

  private static func decimal(_ value: UInt64) -> UInt16 {
    let digits = value % 10 | (value / 10 % 10) << 4 | (value / 100 % 10) << 8 | (value / 1000 % 10) << 12
    return UInt16(truncatingIfNeeded: digits)
  }

  private static func binary(_ bits: UInt16) -> UInt64 {
    let digits = UInt64(bits)
    return digits & 15 + (digits >> 4 & 15) * 10 + (digits >> 8 & 15) * 100 + (digits >> 12) * 1000
  }
}
