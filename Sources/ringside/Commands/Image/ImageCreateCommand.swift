import ArgumentParser
import Storage

struct ImageCreateCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "create", abstract: "Makes an empty disk image.",
    discussion: """
      It takes space of the host's only as it is written.

      Examples:
        ringside image create disk.qcow2 20G
        ringside image create --backing base.qcow2 overlay.qcow2
        ringside image create --format raw disk.img 4G
      """)

  @Option(help: ArgumentHelp("Format of the image: raw or qcow2.", valueName: "format"))
  var format = ImageFormat.qcow2

  @Option(
    help: ArgumentHelp(
      "Image that this one is an overlay of: what is not written here is read there. Relative paths lead from the new image.",
      valueName: "file"))
  var backing: String?

  @Option(help: ArgumentHelp("Format of the backing file. Default: as it looks.", valueName: "format"))
  var backingFormat: ImageFormat?

  @Flag(help: "Replace a file that is there.")
  var force = false

  @OptionGroup var options: Qcow2Options

  @Argument(help: "Path of the new image.")
  var file: String

  @Argument(help: "Size of the disk. Default: that of the backing file.")
  var size: MemorySize?

  func validate() throws {
    if backing == nil {
      if size == nil { throw ValidationError("give the size of the disk, such as 20G") }
      if backingFormat != nil { throw ValidationError("--backing-format: there is no --backing") }
    } else if format != .qcow2 {
      throw ValidationError("--backing: only qcow2 images can have a backing file")
    }
    _ = try options.creation(format, size: roundedSize ?? 0)
  }

  /// To whole sectors.
  private var roundedSize: UInt64? { size.map { $0.bytes > .max - 511 ? $0.bytes : ($0.bytes + 511) & ~511 } }

  func run() throws {
    try reportingFailures {
      guard let backing else {
        return try options.creation(format, size: roundedSize ?? 0).make(at: file, replaces: force).close()
      }
      var reference = try BackingReference(path: backing, format: backingFormat).image(beside: file)
      let found: ImageFormat
      if let backingFormat { found = backingFormat } else { found = try ImageInfo(path: reference.path).format }
      reference.format = found
      let base = try reference.open(warn: Ringside.report)
      guard case .qcow2(var creation) = try options.creation(.qcow2, size: roundedSize ?? base.size) else { return }
      creation.backing = (backing, found)
      try ImageCreation.qcow2(creation).make(at: file, replaces: force, backing: base).close()
    }
  }
}
