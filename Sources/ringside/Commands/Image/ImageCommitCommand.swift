import ArgumentParser
import Storage

struct ImageCommitCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "commit", abstract: "Writes what an overlay has into its backing file.",
    discussion: "Other overlays of that backing file become useless: they were made for what it was.")

  @Flag(help: "Leave the overlay as it is; without it, it is empty afterwards.")
  var keep = false

  @Argument(help: "Path of the overlay.")
  var file: String

  func run() throws {
    try reportingFailures {
      let commit = try ImageCommit(ImageReference(path: file), warn: Ringside.report)
      let bar = ProgressBar("committing", total: commit.size)
      try commit.run(empties: !keep, progress: bar.update)
    }
  }
}
