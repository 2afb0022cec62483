import ArgumentParser

struct SnapshotCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "snapshot", abstract: "Saves whole machines to files, and lets them go on from there.",
    discussion: """
      A machine that is to be saved is started with `--control SOCKET`. A snapshot has its memory, processors and devices; \
      disks that it writes must be qcow2 images, which keep their part themselves. It can go on with another engine than it was saved on, and several times.

      Examples:
        ringside run --control vm.sock
        ringside snapshot save --control vm.sock booted.snapshot
        ringside snapshot restore booted.snapshot --engine interpret
        ringside snapshot restore --clone booted.snapshot
      """,
    subcommands: [
      SnapshotSaveCommand.self, SnapshotRestoreCommand.self, SnapshotListCommand.self, SnapshotDeleteCommand.self,
    ])
}
