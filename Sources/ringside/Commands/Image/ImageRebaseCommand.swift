import ArgumentParser
import Storage

struct ImageRebaseCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "rebase", abstract: "Gives an overlay another backing file, or none.",
    discussion: """
      What differs between the old backing file and the new one is copied into the overlay first, so that the disk stays \
      as it is. With --unsafe only the name is written down: right where the backing file was moved or renamed.
      """)

  @Option(help: ArgumentHelp("The new backing file. Relative paths lead from the overlay.", valueName: "file"))
  var backing: String?

  @Option(help: ArgumentHelp("Format of the new backing file. Default: as it looks.", valueName: "format"))
  var backingFormat: ImageFormat?

  @Flag(help: "The overlay is to have no backing file any more.")
  var none = false

  @Flag(help: "Copy nothing, and do not even look at the old backing file.")
  var unsafe = false

  @Argument(help: "Path of the overlay.")
  var file: String

  func validate() throws {
    guard none != (backing != nil) else { throw ValidationError("give either --backing FILE or --none") }
    if none, backingFormat != nil { throw ValidationError("--backing-format: there is no --backing") }
  }

  func run() throws {
    try reportingFailures {
      var new: (path: String, format: ImageFormat)?
      if let backing {
        let path = try BackingReference(path: backing, format: nil).image(beside: file).path
        let format: ImageFormat
        if let backingFormat { format = backingFormat } else { format = try ImageInfo(path: path).format }
        new = (backing, format)
      }
      let rebase = try ImageRebase(file, to: new, opensOld: !unsafe, warn: Ringside.report)
      if unsafe { return try rebase.runUnsafely() }
      let bar = ProgressBar("rebasing", total: rebase.size)
      try rebase.run(progress: bar.update)
    }
  }
}
