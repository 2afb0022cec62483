import CHost
import CSilicon
import Glibc
import Testing

@testable import Processor

/// The silicon is the oracle: every user-mode instruction form that the interpreter claims does what the host's own
/// processor does.
///
/// A few variables of the environment change a run: `SILICON_CASES` is the number of cases for each form, and
/// `SILICON_SEED` makes them others. The first difference of each form is printed.
///
/// Where the manuals leave a result or the order of faults open, the interpreter follows AMD's processors. On those of
/// other makers such differences are therefore printed and not judged. Undefined flags are the host's, whoever made it.
@Suite(.serialized) struct SiliconTests {
  @Test(arguments: [SiliconMode.long, .protected, .protected16])
  func everyFormDoesWhatTheSiliconDoes(_ mode: SiliconMode) throws {
    let oracle = try SiliconOracle(
      mode: mode, model: CPUModel(vendor: .amd, level: .v3), seed: Self.setting("SILICON_SEED") ?? 1)
    guard oracle.isAvailable else { return print("silicon: this host has no \(mode.name) code for programs") }
    try oracle.run(casesPerForm: Int(Self.setting("SILICON_CASES") ?? 100))
    print(oracle.summary)
    #expect(oracle.failures.isEmpty || !Self.isReference)
    #expect(oracle.flagFailures.isEmpty)
  }

  /// The same of translated code.
  @Test(arguments: [SiliconMode.long, .protected, .protected16])
  func translatedFormsDoWhatTheSiliconDoes(_ mode: SiliconMode) throws {
    let oracle = try SiliconOracle(
      mode: mode, model: CPUModel(vendor: .amd, level: .v3), translation: .eager,
      seed: Self.setting("SILICON_SEED") ?? 1)
    guard oracle.isAvailable else { return print("silicon: this host has no \(mode.name) code for programs") }
    try oracle.run(casesPerForm: Int(Self.setting("SILICON_CASES") ?? 100))
    print(oracle.summary)
    #expect(oracle.failures.isEmpty || !Self.isReference)
    #expect(oracle.flagFailures.isEmpty)
  }

  private static var isReference: Bool {
    let leaf = hostCPUID(0, 0)
    // "AuthenticAMD"
    return (leaf.ebx, leaf.edx, leaf.ecx) == (0x6874_7541, 0x6974_6e65, 0x444d_4163)
  }

  private static func setting(_ name: String) -> UInt64? { getenv(name).flatMap { UInt64(String(cString: $0)) } }
}
