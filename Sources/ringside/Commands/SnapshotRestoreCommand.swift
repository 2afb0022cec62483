import ArgumentParser
import Host
import Logging
import Machine

struct SnapshotRestoreCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "restore", abstract: "Lets a saved machine go on.",
    discussion: """
      The machine is put together as `ringside run` was told when it was started, and the options behind the file's name \
      are added: another `--engine`, another `--serial` for each that there was. What would make another machine of it \
      (`--memory`, `--cpus`, devices) is refused.

      With --clone, which comes before the file's name, any number of machines can go on from one snapshot at the same time: \
      the disks' images are only read, and what each machine writes to its disks is gone in the end. A clone has no control \
      socket and keeps no UEFI variables in a file unless it is given those of its own.
      """)

  @Flag(help: "Leave the disks' images alone, so that others can go on from the same snapshot.")
  var clone = false

  @Argument(help: "The snapshot's file.")
  var file: String

  @Argument(parsing: .captureForPassthrough, help: "Further options, as for 'ringside run'.")
  var options: [String] = []

  func run() throws {
    let snapshot = try reporting { try SnapshotFile(path: file) }
    let command: RunCommand
    let (recorded, added) = RecordedArguments.replace("--serial", in: snapshot.arguments, by: options)
    let arguments =
      (clone ? RecordedArguments.remove(["--control", "--uefi-vars"], from: recorded) : recorded) + added
    do { command = try RunCommand.parse(arguments) } catch {
      throw ValidationError("the machine in '\(file)' cannot be put together: \(RunCommand.message(for: error))")
    }
    try command.run(restoring: snapshot, arguments: arguments, isClone: clone)
  }

  private func reporting<T>(_ body: () throws -> T) throws -> T {
    var result: T?
    try reportingFailures { result = try body() }
    return result!
  }
}
