import ArgumentParser

struct ResumeCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "resume", abstract: "Has a paused machine go on.",
    discussion: """
      A machine is paused by `ringside pause`, or pauses by itself where `--watchdog pause` or `--panic pause` says so. A \
      guest that has crashed stays so.
      """)

  @OptionGroup var control: ControlOption

  func run() throws { try control.ask(.resume) }
}
