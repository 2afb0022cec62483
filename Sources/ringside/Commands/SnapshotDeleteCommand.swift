import ArgumentParser
import Glibc
import Host
import Machine

struct SnapshotDeleteCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "delete", abstract: "Deletes snapshots. Files that are none are left alone.")

  @Argument(help: "The snapshots' files.")
  var files: [String]

  func run() throws {
    try reportingFailures {
      for file in files {
        _ = try SnapshotFile(path: file)
        guard unlink(file) == 0 else { throw HostFailure("delete '\(file)'") }
      }
    }
  }
}
