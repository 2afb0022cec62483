import ArgumentParser
import Host

struct VersionCommand: ParsableCommand {
  static let configuration = CommandConfiguration(commandName: "version", abstract: "Prints the version.")

  func run() throws {
    try reportingFailures { try StandardDescriptors.write(RingsideVersion.text + "\n") }
  }
}
