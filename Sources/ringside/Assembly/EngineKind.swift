import Machine
import Memory
import Processor

/// The catalogue of engines. A new one is a case here, best last, and a line in each table.
enum EngineKind: String, CaseIterable, Sendable {
  case interpret
  case translate

  /// The fastest that works on this host.
  static var best: EngineKind { allCases.last ?? .interpret }

  /// What `doctor` says of it.
  var verdict: String {
    switch self {
    case .interpret: "works on every host: each instruction is decoded and carried out in software"
    case .translate:
      "works on every host: 64-bit and flat 32-bit code that runs often is translated into the host's instructions; "
        + "other code, and what has no translation, is interpreted"
    }
  }

  /// How it handles a sensitive but unprivileged instruction.
  func handling(of instruction: SensitiveInstruction) -> String {
    let interpreted = "on the virtual processor's own state, by \(instruction.family)"
    return switch self {
    case .interpret: interpreted
    case .translate:
      instruction.translation.map { "\($0); others as 'interpret'" } ?? "never translated: as 'interpret'"
    }
  }

  /// Makes the engines of one machine, one for each virtual processor.
  func factory(
    memory: GuestMemory, processor: CPUSpecification, processorCount: Int, translation: TranslationOptions
  ) -> EngineFactory {
    switch self {
    case .interpret, .translate:
      let codeWatch = CodeWatch(memory: memory)
      return { context in
        SoftwareEngine(
          memory: context.memory,
          model: CPUModel(
            processor, apicID: UInt32(context.cpu), processorCount: UInt32(processorCount),
            timeStampFrequency: context.timeStampFrequency),
          codeWatch: codeWatch, translation: self == .translate ? translation : nil)
      }
    }
  }
}
