import CHost
import CZydis
import Machine
import Synchronization
import Testing
import X86

@testable import Processor

/// What the translator tells of itself.
struct TranslationReportTests {
  /// Collects what is printed.
  private final class Text: Sendable {
    private let pieces = Mutex<[String]>([])
    func add(_ piece: String) { pieces.withLock { $0.append(piece) } }
    var all: [String] { pieces.withLock { $0 } }
  }

  private func engine(_ test: TestProcessor, _ code: [UInt8], _ options: TranslationOptions) -> SoftwareEngine {
    test.place(code)
    return SoftwareEngine(memory: test.memory, model: CPUModel(), translation: options)
  }

  /// MOV ECX, 1000; ADD EAX, 1; CPUID's place in `middle`; DEC ECX; JNZ; HLT.
  private func loop(_ middle: [UInt8]) -> [UInt8] {
    let body: [UInt8] = [0x83, 0xc0, 0x01] + middle + [0xff, 0xc9]
    return [0xb9, 0xe8, 0x03, 0, 0] + body + [0x75, UInt8(truncatingIfNeeded: -body.count - 2), 0xf4]
  }

  private func counted(_ middle: [UInt8], instructions: UInt64) throws -> TranslationStatistics {
    let test = TestProcessor(.long64)
    var options = TranslationOptions.eager
    options.countsInstructions = true
    let engine = engine(test, loop(middle), options)
    #expect(try engine.run(&test.cpu.pointee, budget: 1_000_000) == .halt)
    #expect(test.cpu.pointee.instructionCount == instructions)
    return try #require(engine.translationStatistics)
  }

  @Test func translatedInstructionsAreCounted() throws {
    let statistics = try counted([], instructions: 3002)
    #expect(statistics.blockCount > 0 && statistics.codeSize > 0)
    // All but HLT, and jumps that were about to be linked.
    #expect((2990...3001).contains(statistics.instructionCount), "\(statistics)")
  }

  /// Leaving and coming back within a block. SGDT has no translation: SGDT [RSP - 64].
  @Test func whatIsInterpretedInBetweenIsNotCounted() throws {
    let statistics = try counted([0x0f, 0x01, 0x44, 0x24, 0xc0], instructions: 4002)
    #expect((2980...3001).contains(statistics.instructionCount), "\(statistics)")
    #expect((990...1000).contains(statistics.leaveCounts["sgdt"] ?? 0), "\(statistics)")
  }

  @Test func nothingIsCountedUnlessWanted() throws {
    let test = TestProcessor(.long64)
    let engine = engine(test, loop([]), .eager)
    #expect(engine.translationStatistics == nil)
    #expect(try engine.run(&test.cpu.pointee, budget: 1_000_000) == .halt)
    #expect(engine.translationStatistics?.instructionCount == 0)
    #expect(engine.translationStatistics?.blockCount ?? 0 > 0)
  }

  @Test func translationsAreListed() throws {
    let test = TestProcessor(.long64)
    let text = Text()
    var options = TranslationOptions.eager
    options.listing = TranslationOptions.ListingRequest(address: TestProcessor.Layout.code + 6) { text.add($0) }
    // With SGDT [RSP - 64].
    let engine = engine(test, loop([0x0f, 0x01, 0x44, 0x24, 0xc0]), options)
    #expect(try engine.run(&test.cpu.pointee, budget: 1_000_000) == .halt)
    let listing = try #require(text.all.first)
    for line in ["guest block at 0x4000, physical 0x4000, 64-bit, CPL 0", "4005  add eax, 0x01", "(what runs rarely)"] {
      #expect(listing.contains(line), "\(line): \(listing)")
    }
    let sgdt = try #require(listing.split(separator: "\n").first { $0.hasPrefix("4008  sgdt") })
    #expect(sgdt.hasSuffix("(the interpreter's)"))
  }

  /// What is said of sensitive instructions is what the translator's table has.
  @Test func sensitiveInstructionsAreWhatTheyAreSaidToBe() throws {
    var names: [String: Int] = [:]
    for value in 0...Int(ZYDIS_MNEMONIC_MAX_VALUE.rawValue) {
      let mnemonic = ZydisMnemonic(rawValue: UInt32(value))
      if let text = ZydisMnemonicGetString(mnemonic) { names[String(cString: text)] = value }
    }
    for instruction in SensitiveInstruction.all where !instruction.name.contains(" ") {
      let kinds = instruction.mnemonics.compactMap { names[$0].map { BlockTranslation.kinds[$0] } }
      #expect(kinds.count == instruction.mnemonics.count)
      #expect(kinds.contains { $0 != .none } == (instruction.translation != nil), "\(instruction.name)")
    }
  }
}
