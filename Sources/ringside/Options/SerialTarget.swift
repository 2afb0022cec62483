import ArgumentParser

/// Where a serial port of the guest's leads.
enum SerialTarget: Equatable, ExpressibleByArgument {
  /// Standard input and output.
  case stdio
  case none
  /// A file that is written from its beginning.
  case file(String)
  /// A socket in the file system at which this program listens.
  case unix(String)

  init?(argument: String) {
    switch argument {
    case "stdio": self = .stdio
    case "none": self = .none
    case _ where argument.hasPrefix("file:") && argument.count > 5: self = .file(String(argument.dropFirst(5)))
    case _ where argument.hasPrefix("unix:") && argument.count > 5: self = .unix(String(argument.dropFirst(5)))
    default: return nil
    }
  }

  static let allValueStrings = ["stdio", "none", "file:PATH", "unix:PATH"]
}
