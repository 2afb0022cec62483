import ArgumentParser

/// What `--engine` says: an engine's name, or `auto` for the best that works here.
struct EngineSelection: Equatable, ExpressibleByArgument {
  /// Nil: choose.
  var kind: EngineKind?

  init(kind: EngineKind?) { self.kind = kind }

  init?(argument: String) {
    if argument == "auto" {
      kind = nil
    } else {
      guard let kind = EngineKind(rawValue: argument) else { return nil }
      self.kind = kind
    }
  }

  static var allValueStrings: [String] { ["auto"] + EngineKind.allCases.map(\.rawValue) }

  var defaultValueDescription: String { kind?.rawValue ?? "auto" }

  /// The engine to use.
  var chosen: EngineKind { kind ?? .best }
}
