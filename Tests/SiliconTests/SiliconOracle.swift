import CHost
import CSilicon
import CZydis
import Glibc
import Processor
import X86

@testable import Processor

/// Runs cases of all forms on the silicon and in the interpreter and collects the differences.
///
/// Three parties meet here. `FormCatalogue` finds the forms that the interpreter claims; `CaseGenerator` makes of a form
/// an instruction and a state to run it in; and `SiliconProcess` and `GuestMachine` run that, the one on the processor that
/// this test itself runs on, the other in the interpreter with its page tables, faults and interrupt frames. Both see the
/// same linear addresses and stop at the INT3 after the instruction, or at its fault. `Comparison` knows what may differ.
///
/// Cases go in batches: while the fenced process runs one, nobody waits for a single instruction.
final class SiliconOracle {
  /// First difference of a form, and how many there were.
  struct Failure {
    var count = 0
    let report: String
  }

  private let process: SiliconProcess
  private let guest: GuestMachine
  private let mode: SiliconMode
  private let seed: UInt64
  private var generator: CaseGenerator
  private let forms: [InstructionForm]
  private let decoder = InstructionDecoder()
  private let formatter: UnsafeMutablePointer<ZydisFormatter>
  private let result: UnsafeMutablePointer<SiliconState>
  private var cases = 0
  private var completed = 0
  private var undefined: [UInt32: (count: Int, flags: UInt64)] = [:]
  /// Forms whose undefined flags should be the host's and are not.
  private(set) var flagFailures: Set<String> = []
  private(set) var failures: [(form: InstructionForm, failure: Failure)] = []
  private var failureNumbers: [InstructionForm.Key: Int] = [:]

  var isAvailable: Bool { process.runs(mode) }

  init(mode: SiliconMode, model: CPUModel, translation: TranslationOptions? = nil, seed: UInt64) throws {
    self.mode = mode
    self.seed = seed
    process = try SiliconProcess()
    guest = try GuestMachine(model: model, translation: translation)
    let claimed = ClaimedInstructions(model: model)
    generator = CaseGenerator(seed: seed, claimed: claimed)
    forms = FormCatalogue(mode: mode) { decoder, bytes in claimed.contains(decoder, bytes) }.forms
    formatter = .allocate(capacity: 1)
    ZydisFormatterInit(formatter, ZYDIS_FORMATTER_STYLE_INTEL)
    result = .allocate(capacity: 1)
  }

  deinit {
    formatter.deallocate()
    result.deallocate()
  }

  func run(casesPerForm: Int) throws {
    var batch: [InstructionForm] = []
    for _ in 0..<casesPerForm {
      for form in forms {
        guard generator.make(form, slot: batch.count, process.cases + batch.count) else { continue }
        batch.append(form)
        if batch.count == SiliconBatchCapacity {
          try run(batch)
          batch.removeAll(keepingCapacity: true)
        }
      }
    }
    try run(batch)
  }

  private func run(_ batch: [InstructionForm]) throws {
    try process.begin(count: batch.count)
    guest.load(process.cases, count: batch.count)
    try process.finish()
    for (index, form) in batch.enumerated() {
      let one = process.cases + index
      try guest.run(one, result)
      compare(form, one)
    }
  }

  private func compare(_ form: InstructionForm, _ one: UnsafeMutablePointer<SiliconCase>) {
    cases += 1
    if one.pointee.after.vector == 3 { completed += 1 }
    guard decode(one) else { return }
    let comparison = Comparison(one, result, decoder)
    if comparison.undefinedFlags != 0 {
      let old = undefined[form.key.mnemonic] ?? (0, 0)
      undefined[form.key.mnemonic] = (old.count + 1, old.flags | comparison.undefinedFlags)
      if Self.followsHost(decoder) {
        flagFailures.insert("\(form.description) \(String(comparison.undefinedFlags, radix: 16))")
      }
    }
    guard !comparison.differences.isEmpty else { return }
    if let number = failureNumbers[form.key] {
      failures[number].failure.count += 1
    } else {
      failureNumbers[form.key] = failures.count
      failures.append((form, Failure(count: 1, report: report(one, comparison))))
    }
  }

  /// Whether undefined flags are to be the host's too: what the interpreter has a rule for (`FlagRules`).
  private static func followsHost(_ decoder: InstructionDecoder) -> Bool {
    let mnemonic = decoder.instruction.pointee.mnemonic
    let isDoubleShift = mnemonic == ZYDIS_MNEMONIC_SHLD || mnemonic == ZYDIS_MNEMONIC_SHRD
    return ruled.contains(mnemonic.rawValue) && !(isDoubleShift && decoder.instruction.pointee.operand_width == 16)
  }

  private static let ruled: Set<UInt32> = Set(FlagFamily.allCases.flatMap { $0.mnemonics.map(\.rawValue) })
    .subtracting(FlagRules.host.unmatchedMnemonics)

  private func decode(_ one: UnsafeMutablePointer<SiliconCase>) -> Bool {
    withUnsafeBytes(of: &one.pointee.code) {
      decoder.decode($0.baseAddress!.assumingMemoryBound(to: UInt8.self), count: 15, mode: mode.codeMode) == nil
    }
  }

  // MARK: Reports

  private func report(_ one: UnsafeMutablePointer<SiliconCase>, _ comparison: Comparison) -> String {
    var text = [CChar](repeating: 0, count: 256)
    _ = decode(one)
    ZydisFormatterFormatInstruction(
      formatter, decoder.instruction, decoder.operands, decoder.instruction.pointee.operand_count_visible, &text, 256,
      one.pointee.before.rip, nil)
    let name = String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    let bytes = withUnsafeBytes(of: &one.pointee.code) {
      $0.prefix(Int(one.pointee.length)).map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined(separator: " ")
    }
    let before = CaseState(before: one)
    let registers = (0..<(mode == .long ? 16 : 8)).map { String(before.gpr($0), radix: 16) }.joined(separator: " ")
    var lines = ["  \(name)   [\(bytes)] flags \(String(before.rflags, radix: 16))", "    registers \(registers)"]
    for difference in comparison.differences.prefix(8) {
      lines.append("    \(difference.field): silicon \(difference.silicon), interpreter \(difference.interpreter)")
    }
    return lines.joined(separator: "\n")
  }

  /// Counts, and the first difference of each form that has any.
  var summary: String {
    var lines = [
      "silicon, \(mode.name): \(forms.count) forms, \(cases) cases (\(completed) without an exception), seed \(seed)"
    ]
    for (form, failure) in failures.prefix(60) {
      lines.append("\(form.description): \(failure.count) of the cases differ; the first:")
      lines.append(failure.report)
    }
    if failures.count > 60 { lines.append("… and \(failures.count - 60) forms more") }
    if !undefined.isEmpty {
      let all = undefined.map { mnemonic, entry in
        "\(ZydisMnemonicGetString(ZydisMnemonic(rawValue: mnemonic)).map { String(cString: $0) } ?? "?") "
          + "\(String(entry.flags, radix: 16))×\(entry.count)"
      }
      lines.append("undefined flags that differ: " + all.sorted().joined(separator: ", "))
    }
    return lines.joined(separator: "\n")
  }
}
