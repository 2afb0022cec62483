import ArgumentParser

struct PauseCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "pause", abstract: "Has a running machine stand still.",
    discussion: """
      The machine is started with `--control SOCKET`. It can be saved as it stands. For the guest, no time passes until \
      `ringside resume`.
      """)

  @OptionGroup var control: ControlOption

  func run() throws { try control.ask(.pause) }
}
