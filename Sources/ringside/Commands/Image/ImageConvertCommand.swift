import ArgumentParser
import Storage

struct ImageConvertCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "convert", abstract: "Copies a disk into an image of another format.",
    discussion: """
      Zeroes take no space in the new image, and what came from backing files is in it.

      Examples:
        ringside image convert disk.img disk.qcow2
        ringside image convert --compress --compression zstd disk.qcow2 small.qcow2
        ringside image convert --to raw disk.qcow2 disk.img
      """)

  @Option(help: ArgumentHelp("Format of the source. Default: as it looks.", valueName: "format"))
  var from: ImageFormat?

  @Option(help: ArgumentHelp("Format of the new image: raw or qcow2.", valueName: "format"))
  var to = ImageFormat.qcow2

  @Option(help: ArgumentHelp("Copy the disk as it was in this internal snapshot of the source.", valueName: "name"))
  var snapshot: String?

  @Flag(name: [.short, .long], help: "qcow2: compress every cluster.")
  var compress = false

  @Flag(help: "Replace a file that is there.")
  var force = false

  @OptionGroup var options: Qcow2Options

  @Argument(help: "Path of the image to copy.")
  var source: String

  @Argument(help: "Path of the new image.")
  var target: String

  func validate() throws {
    if compress, to != .qcow2 { throw ValidationError("--compress: only qcow2 images have compressed clusters") }
    _ = try options.creation(to, size: 0)
  }

  func run() throws {
    try reportingFailures {
      let reference = ImageReference(path: source, format: from, isReadOnly: true, snapshot: snapshot)
      let disk = try reference.open(warn: Ringside.report)
      let image = try options.creation(to, size: disk.size).make(at: target, replaces: force)
      let bar = ProgressBar("converting", total: disk.size)
      try ImageCopy(from: disk, to: image).run(compresses: compress, progress: bar.update)
      try image.close()
      try disk.close()
    }
  }
}
