import ArgumentParser
import Host
import Logging
import Machine

struct SnapshotRestoreCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "restore", abstract: "Lets a saved machine go on.",
    discussion: """
      The machine is put together as `ringside run` was told when it was started, and the options behind the file's name \
      are added: another `--engine`, another `--serial`. What would make another machine of it (`--memory`, `--cpus`, \
      devices) is refused.
      """)

  @Argument(help: "The snapshot's file.")
  var file: String

  @Argument(parsing: .captureForPassthrough, help: "Further options, as for 'ringside run'.")
  var options: [String] = []

  func run() throws {
    let snapshot = try reporting { try SnapshotFile(path: file) }
    let command: RunCommand
    let arguments = snapshot.arguments + options
    do { command = try RunCommand.parse(arguments) } catch {
      throw ValidationError("the machine in '\(file)' cannot be put together: \(RunCommand.message(for: error))")
    }
    try command.run(restoring: snapshot, arguments: arguments)
  }

  private func reporting<T>(_ body: () throws -> T) throws -> T {
    var result: T?
    try reportingFailures { result = try body() }
    return result!
  }
}
