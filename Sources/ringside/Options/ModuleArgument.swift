import ArgumentParser

/// A module for the kernel, as `--module` names it: a file, and what follows its name up to the first space.
struct ModuleArgument: Equatable, ExpressibleByArgument {
  var path: String
  var arguments: String

  init?(argument: String) {
    let parts = argument.split(separator: " ", maxSplits: 1, omittingEmptySubsequences: true)
    guard let path = parts.first else { return nil }
    self.path = String(path)
    arguments = parts.count > 1 ? String(parts[1]) : ""
  }
}
