import ArgumentParser

/// What `--lockstep` says: the names of two engines.
struct LockstepSelection: Equatable, ExpressibleByArgument {
  var first: EngineKind
  var second: EngineKind

  init?(argument: String) {
    let kinds = argument.split(separator: ",", omittingEmptySubsequences: false).map {
      EngineKind(rawValue: String($0))
    }
    guard kinds.count == 2, let first = kinds[0], let second = kinds[1] else { return nil }
    (self.first, self.second) = (first, second)
  }

  static var allValueStrings: [String] {
    EngineKind.allCases.flatMap { first in EngineKind.allCases.map { "\(first.rawValue),\($0.rawValue)" } }
  }
}
