import ArgumentParser

/// What `--firmware` says: a kind of firmware, whose file is looked for, or a file.
enum FirmwareSelection: Equatable, ExpressibleByArgument {
  /// SeaBIOS.
  case bios
  /// OVMF.
  case uefi
  /// A ROM image.
  case file(String)

  init?(argument: String) {
    switch argument {
    case "": return nil
    case "bios": self = .bios
    case "uefi": self = .uefi
    default: self = .file(argument)
    }
  }
}
