import X86

/// For reports: how this host leaves undefined flags.
public enum HostFlags {
  /// Families of instructions that the interpreter cannot follow, each with its flags.
  public static var unmatched: [String] { FlagRules.host.unmatchedNames }
  /// What differs from AMD's Zen 4 and 5, each with what becomes of its flags.
  public static var peculiarities: [String] {
    FlagFamily.allCases.compactMap { family in
      let rule = FlagRules.host[family]
      let known = FlagRules.zen(family)
      let other = RFLAGS.named(family.undefined & ~(FlagRules.host.unmatched[family] ?? 0)).filter {
        rule.choice(of: $0.flag) != known.choice(of: $0.flag)
      }
      return other.isEmpty
        ? nil : "\(family): " + other.map { "\($0.name) \(rule.choice(of: $0.flag))" }.joined(separator: ", ")
    }
  }
}
