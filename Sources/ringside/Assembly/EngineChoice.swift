import Lockstep
import Machine
import Memory
import Processor

/// How a machine's processors are run: by an engine, or by two that are compared.
enum EngineChoice: Equatable {
  case single(EngineKind)
  /// `window` is the most instructions between two comparisons.
  case lockstep(LockstepSelection, window: Int)

  /// Whether there is generated code to bound, count, name and print.
  var translates: Bool {
    switch self {
    case .single(let kind): kind == .translate
    case .lockstep(let selection, _): selection.first == .translate || selection.second == .translate
    }
  }

  /// Makes the engines of one machine, one for each virtual processor.
  func factory(
    memory: GuestMemory, processor: CPUSpecification, processorCount: Int, translation: TranslationOptions
  ) -> EngineFactory {
    switch self {
    case .single(let kind):
      return kind.factory(
        memory: memory, processor: processor, processorCount: processorCount, translation: translation)
    case .lockstep(let selection, let window):
      precondition(processorCount == 1, "lockstep runs one processor")
      var translation = translation
      translation.interpretsUnmatchedFlags = true
      func side(_ kind: EngineKind) -> LockstepEngine.Side {
        // Each has a memory of its own, which the context names.
        LockstepEngine.Side(name: kind.rawValue) { context in
          try kind.factory(
            memory: context.memory, processor: processor, processorCount: 1, translation: translation)(context)
        }
      }
      return { context in
        try LockstepEngine(context, side(selection.first), side(selection.second), window: window)
      }
    }
  }
}
