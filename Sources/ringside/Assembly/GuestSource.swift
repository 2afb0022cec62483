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

  /// Whether it expects a display in text mode, as what a BIOS's boot loaders start does. Linux and kernels with PVH's
  /// entry are told what there is. A file that is no kernel is an error when it is loaded.
  var expectsDisplay: Bool {
    switch self {
    case .kernel(let file, _, _):
      if case .multiboot = try? BootImage.identify(file) { true } else { false }
    case .flat, .firmware: true
    }
  }

  /// Where ROM is needed.
  var readOnly: Range<UInt64> {
    if case .firmware(let image) = self { image.range } else { 0..<0 }
  }
}
