import CHost
import CZydis
import TestSupport
import Testing
import X86

@testable import Processor

/// Flags that the manuals leave undefined: the probe finds out what a processor does with them, and the interpreter does the
/// same.
@Suite struct FlagProbeTests {
  /// Other processors, one for each choice and for mixtures of them.
  static let processors: [FlagRules] =
    FlagRule.Choice.allCases.map { choice in FlagRules { distinct(FlagRule(choice, $0.undefined), $0) } }
    + (1...8 as ClosedRange<UInt64>).map { seed in
      var random = SeededRandom(seed: seed)
      return FlagRules { family in
        var rule = FlagRule()
        for flag in bits(of: family.undefined) {
          rule.choose(FlagRule.Choice.allCases[Int(random.next() % 5)], for: flag)
        }
        return distinct(rule, family)
      }
    }

  /// Chain handlers of the logical instructions clear AF: no processor is known that does otherwise.
  private static func distinct(_ rule: FlagRule, _ family: FlagFamily) -> FlagRule {
    family == .logic ? FlagRule() : rule
  }

  private static func bits(of mask: UInt64) -> [UInt64] { (0..<64).map { 1 << $0 }.filter { mask & $0 != 0 } }

  /// As Intel's processors since the Pentium 4 are said to do (sandpile.org, "rFLAGS").
  private static func intel(_ family: FlagFamily) -> FlagRule {
    var rule = FlagRules.zen(family)
    switch family {
    case .shl, .shr, .sar, .shld, .shrd: rule.choose(.cleared, for: RFLAGS.af)
    case .rclWholeTurn, .rcrWholeTurn: rule.choose(.kept, for: RFLAGS.of)
    case .mul, .imul, .imulTruncating: rule = FlagRule(first: RFLAGS.sf | RFLAGS.pf)
    case .div, .idiv: rule = FlagRule(kept: RFLAGS.arithmetic)
    default: break
    }
    return rule
  }

  /// Pretends to be a processor that leaves flags by `rules`.
  private static func pretend(_ rules: FlagRules) -> FlagProbe.Execute {
    { stub, registers in
      guard let (family, effect) = stub.effect(registers) else { return }
      registers.rflags = rules[family].flags(after: effect, registers.rflags)
    }
  }

  @Test(arguments: processors.indices) func aProcessorsRulesAreFound(number: Int) {
    let rules = Self.processors[number]
    let found = FlagProbe.run(Self.pretend(rules))
    #expect(found.unmatched.isEmpty, "\(found.unmatchedNames)")
    for family in FlagFamily.allCases {
      // Several choices may come to the same. What counts is what they do.
      for stub in FlagProbe.Stub.all {
        var seed: UInt64 = 77
        for trial in 0..<40 {
          let registers = stub.operands(trial, &seed)
          guard let (itsFamily, effect) = stub.effect(registers), itsFamily == family else { continue }
          #expect(
            found[family].flags(after: effect, registers.rflags)
              == rules[family].flags(after: effect, registers.rflags),
            "\(family) \(stub.code)")
        }
      }
    }
  }

  @Test func aFlagByNoRuleIsReported() {
    var count: UInt64 = 0
    let found = FlagProbe.run { stub, registers in
      guard let (family, effect) = stub.effect(registers) else { return }
      registers.rflags = FlagRules.zen(family).flags(after: effect, registers.rflags)
      guard family == .div else { return }
      count += 1
      if count % 3 == 0 { registers.rflags ^= RFLAGS.sf }
    }
    #expect(found.unmatched == [.div: RFLAGS.sf])
    #expect(found.unmatchedNames == ["div: SF"])
    #expect(found.unmatchedMnemonics == [ZYDIS_MNEMONIC_DIV.rawValue])
    #expect(found[.div] == FlagRules.zen(.div))
  }

  /// The stubs' formulas are right where the manuals say what a flag is, on this processor.
  @Test func definedFlagsAreTheHosts() throws {
    let execute = try #require(FlagProbe.hostExecutor())
    var differences: [String] = []
    _ = FlagProbe.run { stub, registers in
      let before = registers
      execute(stub, &registers)
      guard let (family, effect) = stub.effect(before) else { return }
      let mask = RFLAGS.arithmetic & ~effect.undefined
      let expected = FlagRule().flags(after: effect, before.rflags)
      if (expected ^ registers.rflags) & mask != 0 {
        differences.append("\(family) \(stub.code) of \(before): \(registers.rflags), not \(expected)")
      }
    }
    #expect(differences.isEmpty, "\(differences.prefix(5))")
  }

  /// Semantic functions and chain handlers leave flags by the rules that they were given.
  @Test(arguments: -1..<processors.count) func instructionsFollowTheRules(number: Int) throws {
    let rules = number < 0 ? FlagRules(Self.intel) : Self.processors[number]
    let machine = TestProcessor(.long64, flagRules: rules)
    let chained = TestProcessor(.long64, flagRules: rules)
    let engine = SoftwareEngine(memory: chained.memory, model: CPUModel())
    engine.flagRules = rules
    for (place, stub) in FlagProbe.Stub.all.enumerated() {
      for (index, byte) in (stub.code + [0xf4]).enumerated() {
        chained.store(byte, TestProcessor.Layout.code + UInt64(place * 16 + index))
      }
    }
    for (place, stub) in FlagProbe.Stub.all.enumerated() {
      var seed: UInt64 = 4711
      for trial in 0..<24 {
        let before = stub.operands(trial, &seed)
        guard let (family, effect) = stub.effect(before) else { continue }
        machine.cpu.pointee.gpr.0 = before.rax
        machine.cpu.pointee.gpr.1 = before.rcx
        machine.cpu.pointee.gpr.2 = before.rdx
        machine.cpu.pointee.rflags = before.rflags & ~RFLAGS.if
        #expect(machine.execute(stub.code) == nil)
        let expected = rules[family].flags(after: effect, before.rflags & ~RFLAGS.if)
        #expect(
          machine.cpu.pointee.rflags == expected,
          "\(family) \(stub.code) of \(before): \(machine.cpu.pointee.rflags ^ expected)")
        chained.cpu.pointee.gpr.0 = before.rax
        chained.cpu.pointee.gpr.1 = before.rcx
        chained.cpu.pointee.gpr.2 = before.rdx
        chained.cpu.pointee.rflags = before.rflags & ~RFLAGS.if
        chained.cpu.pointee.rip = TestProcessor.Layout.code + UInt64(place * 16)
        chained.cpu.pointee.activity = .running
        #expect(try EngineEventTests.run(chained, engine) == .halt)
        #expect(
          chained.cpu.pointee.rflags == expected,
          "\(family) \(stub.code) of \(before) in the chain: \(chained.cpu.pointee.rflags ^ expected)")
        #expect(chained.cpu.pointee.gpr.0 == machine.cpu.pointee.gpr.0, "\(family) \(stub.code) of \(before)")
      }
    }
  }

  /// What is kept of Intel's way in chain handlers.
  @Test func handlersAreThereForBothMakers() {
    let intel = FlagRules(Self.intel)
    #expect(intel.shiftsHaveHandlers && intel.rotatesHaveHandlers && intel.shiftAdjust == 0)
    #expect(intel.productFlags == .ofResultWithoutZero)
    let zen = FlagRules(FlagRules.zen)
    #expect(zen.shiftsHaveHandlers && zen.rotatesHaveHandlers && zen.shiftAdjust == RFLAGS.af)
    #expect(zen.productFlags == .kept)
  }

  @Test func scansOfZeroKeepOrClearTheUpperHalf() {
    for clears in [false, true] {
      let machine = TestProcessor(
        .long64, flagRules: FlagRules(scanOfZeroClearsUpperHalf: clears, FlagRules.zen))
      machine.cpu.pointee.gpr.0 = 0x1234_5678_9abc_def0
      machine.cpu.pointee.gpr.2 = 0
      // BSF EAX, EDX; BSR EAX, EDX.
      #expect(machine.execute([0x0f, 0xbc, 0xc2]) == nil)
      #expect(machine.execute([0x0f, 0xbd, 0xc2]) == nil)
      #expect(machine.cpu.pointee.gpr.0 == (clears ? 0x9abc_def0 : 0x1234_5678_9abc_def0))
    }
  }
}
