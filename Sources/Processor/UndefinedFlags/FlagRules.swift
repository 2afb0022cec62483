import CHost
import CZydis
import X86

/// How instructions leave the flags that the manuals call undefined.
///
/// Guests cannot rely on these flags, but they see them: PUSHF and interrupts save them. Translated code runs most
/// instructions on the host's own units, so the interpreter follows the host, whichever it is: then both engines do the
/// same to the last bit, and can be compared (`Lockstep`). `host` finds out by trying, once. Instructions that never run on
/// the host's units (AAA to DAS, 16-bit double shifts) need no rule.
///
/// A family whose flags on this host follow none of the choices is `unmatched`. Where engines are to be compared, its
/// instructions are not translated (`TranslationOptions.interpretsUnmatchedFlags`).
final class FlagRules: @unchecked Sendable {
  /// Written before anybody else sees the object, never after.
  private let rules: UnsafeMutablePointer<FlagRule>
  /// Flags that follow no rule, by family.
  let unmatched: [FlagFamily: UInt64]
  /// A 32-bit BSF or BSR of zero clears the upper half of its destination, which otherwise keeps all its bits.
  let scanOfZeroClearsUpperHalf: Bool

  init(
    unmatched: [FlagFamily: UInt64] = [:], scanOfZeroClearsUpperHalf: Bool = false,
    _ rule: (FlagFamily) -> FlagRule
  ) {
    self.unmatched = unmatched
    self.scanOfZeroClearsUpperHalf = scanOfZeroClearsUpperHalf
    rules = .allocate(capacity: FlagFamily.allCases.count)
    for family in FlagFamily.allCases { (rules + family.rawValue).initialize(to: rule(family)) }
    shiftAdjust = rule(.shl).set & RFLAGS.af
    shiftsHaveHandlers = Self.shiftsHaveHandlers(rule)
    rotatesHaveHandlers = [FlagFamily.rol, .ror].allSatisfy { rule($0).choice(of: RFLAGS.of) == .first }
    productFlags = Self.productFlags(rule(.imulTruncating))
  }

  deinit { rules.deallocate() }

  @inline(__always) subscript(_ family: FlagFamily) -> FlagRule { rules[family.rawValue] }

  /// What this host does. Found out when it is first asked for, in less than a millisecond.
  static let host = FlagProbe.run()

  /// AMD's Zen 4 and Zen 5, where the probe has no code memory, and what it tries first.
  static func zen(_ family: FlagFamily) -> FlagRule {
    switch family {
    case .shl, .shr, .sar, .shld, .shrd: FlagRule(set: RFLAGS.af, first: RFLAGS.of | RFLAGS.cf)
    case .rol, .ror, .rcl, .rcr, .rclWholeTurn, .rcrWholeTurn: FlagRule(first: RFLAGS.of)
    case .mul, .imul, .imulTruncating: FlagRule(kept: FlagFamily.mul.undefined)
    case .div, .idiv: FlagRule(kept: RFLAGS.cf | RFLAGS.of, set: RFLAGS.af)
    case .bsf, .bsr, .bsfZero, .bsrZero: FlagRule(first: RFLAGS.pf)
    case .tzcnt, .lzcnt: FlagRule(kept: RFLAGS.of)
    case .bitTest: FlagRule(kept: FlagFamily.bitTest.undefined)
    case .bextr: FlagRule(set: RFLAGS.af, first: RFLAGS.pf)
    case .blsi, .blsmsk, .blsr, .bzhi, .andn: FlagRule(first: RFLAGS.pf)
    case .logic: FlagRule()
    }
  }

  // MARK: Chain handlers

  /// Whether chain handlers of shifts do what the rules say: AF always the same after all three, the others as for the last
  /// of so many shifts by one.
  let shiftsHaveHandlers: Bool

  private static func shiftsHaveHandlers(_ rule: (FlagFamily) -> FlagRule) -> Bool {
    let rules = [FlagFamily.shl, .shr, .sar].map(rule)
    return rules.allSatisfy { rule in
      rule.choice(of: RFLAGS.of) == .first && rule.choice(of: RFLAGS.af) == rules[0].choice(of: RFLAGS.af)
        && [.set, .cleared].contains(rule.choice(of: RFLAGS.af))
    }
  }

  /// The same of rotates.
  let rotatesHaveHandlers: Bool

  /// AF after a shift: bit 4 of `LazyFlags.separate`'s `b`.
  let shiftAdjust: UInt64

  /// How chain handlers of IMUL make flags; nil: they cannot, as the rules say.
  let productFlags: ProductFlags?

  private static func productFlags(_ rule: FlagRule) -> ProductFlags? {
    if rule.kept == FlagFamily.imulTruncating.undefined { return .kept }
    guard rule.choice(of: RFLAGS.sf) == .first, rule.choice(of: RFLAGS.pf) == .first,
      rule.choice(of: RFLAGS.af) == .cleared
    else { return nil }
    switch rule.choice(of: RFLAGS.zf) {
    case .first: return .ofResult
    case .cleared: return .ofResultWithoutZero
    default: return nil
    }
  }

  /// SF, ZF, AF and PF after IMUL with two or three operands, as chain handlers know them.
  enum ProductFlags: UInt64 {
    case kept = 0
    /// AF is cleared.
    case ofResult = 1
    /// AF and ZF are cleared.
    case ofResultWithoutZero = 2
  }

  // MARK: For whoever compares engines

  /// The mnemonics of instructions that leave flags on this host as no rule says.
  var unmatchedMnemonics: Set<UInt32> { Set(unmatched.keys.flatMap { $0.mnemonics.map(\.rawValue) }) }

  /// "mul: SF ZF", one for each family.
  var unmatchedNames: [String] {
    unmatched.sorted { $0.key.rawValue < $1.key.rawValue }.map { family, flags in "\(family): \(RFLAGS.text(flags))" }
  }
}
