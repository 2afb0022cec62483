import ArgumentParser

struct BalloonCommand: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "balloon", abstract: "Asks a running guest to leave memory to this computer, or to take it back.",
    discussion: """
      The machine is started with `--balloon SIZE --control SOCKET`. The guest gives memory as fast as it can, and may \
      give less than it is asked for.

      Example:
        ringside run --balloon 0 --control vm.sock
        ringside balloon --control vm.sock 256M
      """)

  @OptionGroup var control: ControlOption

  @Argument(help: "How much memory the guest is to do without in all; 0: none.")
  var size: MemorySize

  func run() throws { try control.ask(.setBalloon(size)) }
}
