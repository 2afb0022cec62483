import CHost
import Host
import X86

/// Finds out what the host's processor does with undefined flags: runs each instruction of `FlagProbe.Stub.all` with many
/// operands and keeps, for each flag, the choices of `FlagRule` that were right every time.
///
/// The stubs are a few bytes of code of our own in memory of their own, which load registers and flags, execute the one
/// instruction and store both again. No operand makes an instruction fault.
enum FlagProbe {
  /// Registers and flags before a stub's instruction, and after it. As the stubs have it.
  struct Registers {
    var rax: UInt64 = 0
    var rcx: UInt64 = 0
    var rdx: UInt64 = 0
    var rflags: UInt64 = 0
  }

  /// How instructions are run: natively, or, in tests, by something that pretends to be another processor.
  typealias Execute = (_ stub: Stub, _ registers: inout Registers) -> Void

  /// How many operands each stub is tried with.
  static let trials = 48

  static func run() -> FlagRules {
    hostExecutor().map(run) ?? FlagRules(FlagRules.zen)
  }

  /// Runs stubs natively; nil: the host gives no memory for code.
  static func hostExecutor() -> Execute? {
    guard let memory = try? CodeMemory(size: 4096) else { return nil }
    let run = unsafeBitCast(memory.executable, to: Code.self)
    // A stub comes many times in a row.
    var assembled: [UInt8] = []
    return { stub, registers in
      if stub.code != assembled {
        assemble(stub, memory)
        assembled = stub.code
      }
      withUnsafeMutablePointer(to: &registers) { run(UnsafeMutableRawPointer($0)) }
    }
  }

  static func run(_ execute: Execute) -> FlagRules {
    var findings = [Finding](repeating: Finding(), count: FlagFamily.allCases.count)
    var clearsUpperHalf = false
    // Always the same operands: two runs on one host have the same flags.
    var seed: UInt64 = 0x9e37_79b9_7f4a_7c15
    for stub in Stub.all where stub.isAvailable {
      for trial in 0..<trials {
        let before = stub.operands(trial, &seed)
        var after = before
        execute(stub, &after)
        guard let (family, effect) = stub.effect(before) else { continue }
        findings[family.rawValue].take(effect, before.rflags, after.rflags)
        if family == .bsfZero || family == .bsrZero, stub.width == 4, after.rax != before.rax { clearsUpperHalf = true }
      }
    }
    var unmatched: [FlagFamily: UInt64] = [:]
    let rules = FlagFamily.allCases.map { family in
      let (rule, rest) = findings[family.rawValue].rule(family)
      if rest != 0 { unmatched[family] = rest }
      return rule
    }
    return FlagRules(unmatched: unmatched, scanOfZeroClearsUpperHalf: clearsUpperHalf) { rules[$0.rawValue] }
  }

  /// What has been seen of a family.
  private struct Finding {
    /// Flags for which a choice was wrong, by choice.
    var wrong = [UInt64](repeating: 0, count: FlagRule.Choice.allCases.count)

    mutating func take(_ effect: FlagEffect, _ before: UInt64, _ after: UInt64) {
      for (index, choice) in FlagRule.Choice.allCases.enumerated() {
        let expected = FlagRule(choice, RFLAGS.arithmetic).flags(after: effect, before)
        wrong[index] |= (expected ^ after) & effect.undefined
      }
    }

    /// A rule that was always right, and the flags for which there is none. Where several would do, what is known of other
    /// processors is preferred.
    func rule(_ family: FlagFamily) -> (FlagRule, UInt64) {
      var rule = FlagRules.zen(family)
      var unmatched: UInt64 = 0
      for bit in 0..<UInt64(64) where family.undefined & 1 << bit != 0 {
        let flag: UInt64 = 1 << bit
        let right = FlagRule.Choice.allCases.enumerated().filter { wrong[$0.offset] & flag == 0 }.map(\.element)
        if right.contains(rule.choice(of: flag)) { continue }
        // Chain handlers and LazyFlags know nothing but cleared.
        guard let choice = right.first, family != .logic else {
          unmatched |= flag
          continue
        }
        rule.choose(choice, for: flag)
      }
      return (rule, unmatched)
    }
  }

  // MARK: Running a stub

  private typealias Code = @convention(c) (UnsafeMutableRawPointer) -> Void

  /// Writes a function that loads `Registers`, executes the stub's instruction, and stores them.
  private static func assemble(_ stub: Stub, _ memory: CodeMemory) {
    var code = HostAssembler(memory, at: 0)
    let rdi = HostRegister.rdi
    func field(_ number: Int) -> HostOperand {
      .memory(base: rdi, index: nil, scale: 0, displacement: Int32(number * 8))
    }
    code.load(HostRegister.rax, field(0))
    code.load(HostRegister.rcx, field(1))
    code.load(HostRegister.rdx, field(2))
    // PUSH qword [RDI + 24]; POPFQ.
    code.bytes(0xff, 0x77, 0x18, 0x9d)
    for byte in stub.code { code.byte(byte) }
    // PUSHFQ; POP qword [RDI + 24].
    code.bytes(0x9c, 0x8f, 0x47, 0x18)
    code.store(HostRegister.rax, field(0))
    code.store(HostRegister.rcx, field(1))
    code.store(HostRegister.rdx, field(2))
    code.byte(0xc3)
  }
}
