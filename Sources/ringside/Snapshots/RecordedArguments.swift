/// The arguments of `ringside run` as a snapshot keeps them: paths lead from the root, so that the machine can be put
/// together again from any folder.
struct RecordedArguments: Equatable {
  var arguments: [String]

  /// Options whose values are paths, and what may stand before the path.
  private static let pathOptions: [String: [String]] = [
    "--kernel": [""], "--initrd": [""], "--module": [""], "--firmware": [""], "--disk": [""],
    "--serial": ["file:", "unix:"],
  ]

  /// `arguments` as they were given in `directory`.
  init(_ arguments: some Sequence<String>, directory: String) {
    var recorded: [String] = []
    var option: String?
    for argument in arguments {
      if let name = option {
        recorded.append(Self.absolute(argument, of: name, directory))
        option = nil
      } else if let equals = argument.firstIndex(of: "="), Self.pathOptions[String(argument[..<equals])] != nil {
        let name = String(argument[..<equals])
        recorded.append(
          "\(name)=" + Self.absolute(String(argument[argument.index(after: equals)...]), of: name, directory))
      } else {
        recorded.append(argument)
        if Self.pathOptions[argument] != nil { option = argument }
      }
    }
    self.arguments = recorded
  }

  private static func absolute(_ value: String, of option: String, _ directory: String) -> String {
    // Names that are no paths.
    if option == "--firmware", ["bios", "uefi"].contains(value) { return value }
    guard let prefix = pathOptions[option]?.first(where: { value.hasPrefix($0) }) else { return value }
    let path = value.dropFirst(prefix.count)
    return path.hasPrefix("/") ? value : "\(prefix)\(directory)/\(path)"
  }
}
