import ArgumentParser
import Glibc

struct SnapshotSaveCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "save", abstract: "Saves a running machine to a file; it goes on afterwards.")

  @Option(help: ArgumentHelp("The socket that the machine was given with 'run --control'.", valueName: "socket"))
  var control: String

  @Argument(help: "The snapshot's file. One that is there is replaced when the new one is whole.")
  var file: String

  func run() throws {
    try reportingFailures {
      // The machine may have been started in another folder.
      let path = file.hasPrefix("/") ? file : "\(WorkingDirectory.path)/\(file)"
      try ControlServer.ask(.saveSnapshot(path: path), path: control)
    }
  }
}
