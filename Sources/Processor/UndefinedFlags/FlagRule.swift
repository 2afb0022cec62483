import X86

/// What a family of instructions does to the flags that the manuals leave undefined: for each of them one choice. A flag that
/// is in none of the masks is cleared.
struct FlagRule: Equatable, Sendable {
  /// Stay as they were.
  var kept: UInt64 = 0
  /// Are set.
  var set: UInt64 = 0
  /// Are those of the first or the second of the words that belong to the family (`FlagEffect`).
  var first: UInt64 = 0
  var second: UInt64 = 0

  /// One of a flag's possible fates.
  enum Choice: CaseIterable, Sendable { case first, second, kept, cleared, set }

  init(kept: UInt64 = 0, set: UInt64 = 0, first: UInt64 = 0, second: UInt64 = 0) {
    self.kept = kept
    self.set = set
    self.first = first
    self.second = second
  }

  /// The same for all of some flags.
  init(_ choice: Choice, _ flags: UInt64) {
    switch choice {
    case .first: first = flags
    case .second: second = flags
    case .kept: kept = flags
    case .cleared: break
    case .set: set = flags
    }
  }

  /// What becomes of `flag`, a single one.
  func choice(of flag: UInt64) -> Choice {
    kept & flag != 0
      ? .kept : set & flag != 0 ? .set : first & flag != 0 ? .first : second & flag != 0 ? .second : .cleared
  }

  /// Changes what becomes of `flag`.
  mutating func choose(_ choice: Choice, for flag: UInt64) {
    kept &= ~flag
    set &= ~flag
    first &= ~flag
    second &= ~flag
    let chosen = FlagRule(choice, flag)
    kept |= chosen.kept
    set |= chosen.set
    first |= chosen.first
    second |= chosen.second
  }

  /// RFLAGS after an instruction with this effect, before which they were `old`.
  @inline(__always)
  func flags(after effect: FlagEffect, _ old: UInt64) -> UInt64 {
    let chosen = old & kept | set | effect.first & first | effect.second & second
    return old & ~effect.changed | effect.first & effect.changed & ~effect.undefined | chosen & effect.undefined
  }
}
