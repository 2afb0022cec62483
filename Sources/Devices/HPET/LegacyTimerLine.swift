import Machine

/// The line of an ISA interrupt that belongs to an old timer chip until an HPET takes it over (IA-PC HPET Specification
/// 1.0a, 2.2.1, "legacy replacement").
public final class LegacyTimerLine {
  private let output: InterruptLine
  private var chipLevel = false
  private var timerLevel = false

  public init(_ output: InterruptLine) { self.output = output }

  /// Where the old chip's output leads.
  public var chip: InterruptLine {
    InterruptLine { [unowned self] level in
      chipLevel = level
      if !isTaken { output.set(level) }
    }
  }

  /// The HPET has it.
  var isTaken = false {
    didSet { if isTaken != oldValue { output.set(isTaken ? timerLevel : chipLevel) } }
  }

  func setTimer(_ level: Bool) {
    timerLevel = level
    if isTaken { output.set(level) }
  }
}
