import ArgumentParser
import Glibc

struct SnapshotSaveCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "save", abstract: "Saves a running machine to a file; it goes on afterwards.")

  @OptionGroup var control: ControlOption

  @Argument(help: "The snapshot's file. One that is there is replaced when the new one is whole.")
  var file: String

  func run() throws {
    // The machine may have been started in another folder.
    try control.ask(.saveSnapshot(path: file.hasPrefix("/") ? file : "\(WorkingDirectory.path)/\(file)"))
  }
}
