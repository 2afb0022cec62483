import ArgumentParser

struct ImageCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "image", abstract: "Makes, shows, checks and changes disk images.",
    discussion: """
      Sizes are numbers with K, M, G or T. An image that a machine uses cannot be changed, and can be shown only.
      """,
    subcommands: [
      ImageCreateCommand.self, ImageInfoCommand.self, ImageCheckCommand.self, ImageConvertCommand.self,
      ImageSnapshotCommand.self, ImageCommitCommand.self, ImageRebaseCommand.self, ImageResizeCommand.self,
    ])
}
