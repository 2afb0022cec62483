/// The arguments of `ringside run` as a snapshot keeps them: paths lead from the root, so that the machine can be put
/// together again from any folder.
struct RecordedArguments: Equatable {
  var arguments: [String]

  /// Options whose values are paths, and what may stand before the path.
  private static let pathOptions: [String: [String]] = [
    "--kernel": [""], "--initrd": [""], "--module": [""], "--firmware": [""], "--disk": [""], "--floppy": [""],
    "--serial": ["file:", "unix:"], "--console": ["file:", "unix:"],
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

  /// `arguments`, in which the first value of an option that can be given repeatedly is that of `options` if there is one,
  /// the second the second and so on; and what is left of `options`.
  static func replace(
    _ option: String, in arguments: [String], by options: [String]
  ) -> (arguments: [String], options: [String]) {
    var arguments = arguments
    var options = options
    var start = arguments.startIndex
    while let old = place(of: option, in: arguments[start...]), let new = place(of: option, in: options[...]) {
      let values = options[new]
      options.removeSubrange(new)
      arguments.replaceSubrange(old, with: values)
      start = old.lowerBound + values.count
    }
    return (arguments, options)
  }

  /// `arguments` without these options and their values.
  static func remove(_ options: [String], from arguments: [String]) -> [String] {
    var arguments = arguments
    for option in options {
      while let place = place(of: option, in: arguments[...]) { arguments.removeSubrange(place) }
    }
    return arguments
  }

  /// Where the option first stands, with its value.
  private static func place(of option: String, in arguments: ArraySlice<String>) -> Range<Int>? {
    guard let index = arguments.firstIndex(where: { $0 == option || $0.hasPrefix("\(option)=") }) else { return nil }
    let end = arguments[index] == option ? min(index + 2, arguments.endIndex) : index + 1
    return index..<end
  }

  private static func absolute(_ value: String, of option: String, _ directory: String) -> String {
    // Names that are no paths.
    if option == "--firmware", ["bios", "uefi"].contains(value) { return value }
    guard let prefix = pathOptions[option]?.first(where: { value.hasPrefix($0) }) else { return value }
    let path = value.dropFirst(prefix.count)
    return path.hasPrefix("/") ? value : "\(prefix)\(directory)/\(path)"
  }
}
