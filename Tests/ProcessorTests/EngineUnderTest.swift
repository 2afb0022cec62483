import Memory
import Testing

@testable import Processor

/// The engine that a test drives: the interpreter, or the translator, which translates whatever it can.
enum EngineUnderTest {
  @TaskLocal static var translation: TranslationOptions?

  static func make(_ memory: GuestMemory) -> SoftwareEngine {
    SoftwareEngine(memory: memory, model: CPUModel(), translation: translation)
  }
}

/// Runs each test of a suite on both engines.
struct BothEngines: SuiteTrait, TestTrait, TestScoping {
  var isRecursive: Bool { true }

  func provideScope(
    for test: Test, testCase: Test.Case?, performing function: @Sendable () async throws -> Void
  ) async throws {
    for translation in [nil, TranslationOptions.eager] {
      try await EngineUnderTest.$translation.withValue(translation) { try await function() }
    }
  }
}

extension Trait where Self == BothEngines {
  static var onBothEngines: Self { BothEngines() }
}
