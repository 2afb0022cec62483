import ArgumentParser
import Host
import Storage

struct ImageSnapshotCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "snapshot", abstract: "Keeps states of a disk inside its qcow2 image.",
    subcommands: [List.self, Create.self, Apply.self, Delete.self])

  struct List: ParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Lists the snapshots of an image.")

    @Flag(help: "Print JSON.")
    var json = false

    @Argument(help: "Path of the image.")
    var file: String

    func run() throws {
      try reportingFailures {
        guard let qcow2 = try ImageInfo(path: file).qcow2 else {
          throw CommandFailure(description: "'\(file)' is no qcow2 image, and other formats have no snapshots")
        }
        let report = SnapshotReport(qcow2.snapshots)
        try StandardDescriptors.write(json ? report.json.text() + "\n" : report.text)
      }
    }
  }

  struct Create: ParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Keeps the disk as it is now.")
    @OptionGroup var place: Place

    func run() throws { try place.change { try $0.createSnapshot(named: $1) } }
  }

  struct Apply: ParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Makes the disk what it was. What it is now is lost, unless it has a snapshot, too.")
    @OptionGroup var place: Place

    func run() throws { try place.change { try $0.applySnapshot($1) } }
  }

  struct Delete: ParsableCommand {
    static let configuration = CommandConfiguration(abstract: "Forgets a snapshot.")
    @OptionGroup var place: Place

    func run() throws { try place.change { try $0.deleteSnapshot($1) } }
  }

  /// A snapshot of an image.
  struct Place: ParsableArguments {
    @Argument(help: "Path of the image.")
    var file: String

    @Argument(help: "Name of the snapshot, or its number.")
    var name: String

    func change(_ body: (Qcow2Image, String) throws -> Void) throws {
      try reportingFailures {
        let image = try ImageReference(path: file).openQcow2(warn: Ringside.report)
        try body(image, name)
        try image.close()
      }
    }
  }
}
