import Machine
import Memory
import Processor

/// The catalogue of engines. A new one is a case here, best last, and a line in each table.
enum EngineKind: String, CaseIterable, Sendable {
  case interpret

  /// The fastest that works on this host.
  static var best: EngineKind { allCases.last ?? .interpret }

  /// What `doctor` says of it.
  var verdict: String {
    switch self {
    case .interpret: "works on every host: each instruction is decoded and carried out in software"
    }
  }

  /// How it handles a sensitive but unprivileged instruction.
  func handling(of instruction: SensitiveInstruction) -> String {
    switch self {
    case .interpret: "on the virtual processor's own state, by \(instruction.family)"
    }
  }

  /// Makes the engines of one machine, one for each virtual processor.
  func factory(memory: GuestMemory, processor: CPUSpecification, processorCount: Int) -> EngineFactory {
    switch self {
    case .interpret:
      let codeWatch = CodeWatch(memory: memory)
      return { context in
        Interpreter(
          memory: context.memory,
          model: CPUModel(
            processor, apicID: UInt32(context.cpu), processorCount: UInt32(processorCount),
            timeStampFrequency: context.timeStampFrequency),
          codeWatch: codeWatch)
      }
    }
  }
}
