import Firmware

/// What a machine starts with.
enum GuestSource {
  /// A kernel, by the protocol that its file speaks.
  case kernel(BootFile, modules: [BootModule], commandLine: String)
  /// A file without a header, in real-address mode.
  case flat(BootFile, RealModeAddress)
  /// A ROM image, from the processor's reset vector on.
  case firmware(FirmwareImage)

  /// The file's name, as it was given.
  var name: String {
    switch self {
    case .kernel(let file, _, _), .flat(let file, _): file.name
    case .firmware(let image): image.name
    }
  }

  /// The guest's firmware is its own.
  var isFirmware: Bool {
    if case .firmware = self { true } else { false }
  }

  /// Where ROM is needed.
  var readOnly: Range<UInt64> {
    if case .firmware(let image) = self { image.range } else { 0..<0 }
  }
}
