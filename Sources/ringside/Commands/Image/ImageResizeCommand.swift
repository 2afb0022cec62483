import ArgumentParser
import Storage

struct ImageResizeCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "resize", abstract: "Makes a disk larger or smaller.",
    discussion: """
      Partitions and file systems do not change with it: grow them afterwards, shrink them before.

      Examples:
        ringside image resize disk.qcow2 40G
        ringside image resize disk.qcow2 +10G
        ringside image resize --shrink disk.img -- -1G
      """)

  @Option(help: ArgumentHelp("Format of the image. Default: as it looks.", valueName: "format"))
  var format: ImageFormat?

  @Flag(help: "Allow the disk to become smaller: what is behind its new end is lost.")
  var shrink = false

  @Argument(help: "Path of the image.")
  var file: String

  @Argument(help: "The new size, or with a sign, by how much it changes.")
  var size: SizeChange

  func run() throws {
    try reportingFailures {
      let image = try ImageReference(path: file, format: format).open { _ in }
      guard let resizable = image as? any ResizableImage else {
        throw CommandFailure(description: "'\(file)' cannot be resized: its format can only be read")
      }
      guard let new = size.applied(to: image.size) else {
        throw CommandFailure(description: "'\(file)' has \(image.size) bytes, and cannot change by so much")
      }
      guard new >= image.size || shrink else {
        throw CommandFailure(
          description: "'\(file)' would become smaller, from \(image.size) to \(new) bytes, and lose what is behind: "
            + "give --shrink if that is meant")
      }
      try resizable.resize(to: new > .max - 511 ? new : (new + 511) & ~511)
      try resizable.close()
    }
  }
}
