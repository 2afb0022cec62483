import ArgumentParser
import Glibc
import Host
import Machine
import Storage

struct SnapshotDeleteCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "delete", abstract: "Deletes snapshots. Files that are none are left alone.")

  @Argument(help: "The snapshots' files.")
  var files: [String]

  func run() throws {
    try reportingFailures {
      for file in files {
        try deleteFromDisks(try SnapshotFile(path: file))
        guard unlink(file) == 0 else { throw HostFailure("delete '\(file)'") }
      }
    }
  }

  /// The internal snapshots in the disks' images go too. One that is gone already, or whose image is, is none to delete.
  private func deleteFromDisks(_ snapshot: SnapshotFile) throws {
    guard let command = try? RunCommand.parse(snapshot.arguments) else { return }
    let names = DiskArgument.snapshotNames(
      of: command.disk, floppies: command.floppy, on: command.machine, in: snapshot.disks)
    for (disk, name) in zip(command.disk + command.floppy, names) {
      guard let name, access(disk.path, F_OK) == 0 else { continue }
      let image = try ImageReference(path: disk.path, format: .qcow2).openQcow2 { Ringside.report($0) }
      if image.snapshots.contains(where: { $0.name == name }) { try image.deleteSnapshot(name) }
      try image.close()
    }
  }
}
