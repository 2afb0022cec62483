import ArgumentParser
import Host
import Storage

struct ImageInfoCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "info", abstract: "Tells what an image is.")

  @Option(help: ArgumentHelp("Format of the image. Default: as it looks.", valueName: "format"))
  var format: ImageFormat?

  @Flag(help: "Print JSON.")
  var json = false

  @Flag(help: "Tell about the backing files, too.")
  var backingChain = false

  @Argument(help: "Path of the image.")
  var file: String

  func run() throws {
    try reportingFailures {
      var reports = [ImageReport(try ImageInfo(path: file, format: format))]
      while backingChain, let last = reports.last?.info, let path = last.backingPath {
        guard !reports.contains(where: { $0.info.path == path }) else {
          throw CommandFailure(description: "'\(path)' is its own backing file, by way of \(reports.count) images")
        }
        reports.append(ImageReport(try ImageInfo(path: path, format: last.backing?.format)))
      }
      if json {
        let values = reports.map(\.json)
        try StandardDescriptors.write((backingChain ? JSONValue.list(values) : values[0]).text() + "\n")
      } else {
        try StandardDescriptors.write(reports.map(\.text).joined(separator: "\n"))
      }
    }
  }
}
