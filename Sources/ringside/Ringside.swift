import ArgumentParser
import Glibc
import Host

// The program: command line in, exit status out. This target knows everybody and nobody knows it: it alone decides which
// engines and devices there are (`EngineKind`, `MachineBuilder`) and what meets the person at the keyboard.
//
// Whatever ends a command ends here, so that every message goes to one place and every status is one of `ExitStatus`.
// Standard output is written with plain write(2) and checked: a full disk or a closed pipe is a failure, not a shrug.

/// The `ringside` program.
public struct Ringside: ParsableCommand {
  public static let configuration = CommandConfiguration(
    commandName: "ringside",
    abstract: "Runs x86 virtual machines.",
    discussion: """
      `ringside run` boots the default guest, a small Linux, to a shell in this terminal. \
      `ringside run --kernel FILE` boots a kernel of yours. \
      `ringside image` works on disk images. `ringside snapshot` saves a running machine and lets it go on. \
      `ringside doctor` tells what this computer offers. \
      `ringside isa INSTRUCTION` tells how an instruction is carried out.
      """,
    version: RingsideVersion.text,
    subcommands: [
      RunCommand.self, ImageCommand.self, SnapshotCommand.self, PauseCommand.self, ResumeCommand.self,
      BalloonCommand.self, DoctorCommand.self, IsaCommand.self, VersionCommand.self,
    ])

  public init() {}

  public static func main() {
    TimeStampFrequency.prepare()
    StandardDescriptors.secure()
    SignalWatch.ignoreBrokenPipes()
    do {
      var command = try command(CommandLine.arguments.dropFirst())
      try command.run()
    } catch {
      finish(error)
    }
  }

  /// To look at all commands takes milliseconds, which a machine's start has better use for. Where `run` alone does not
  /// understand its arguments, all are looked at, for the sake of the message.
  private static func command(_ arguments: ArraySlice<String>) throws -> any ParsableCommand {
    if arguments.first == RunCommand.configuration.commandName,
      let command = try? RunCommand.parseAsRoot(Array(arguments.dropFirst())) as? RunCommand
    {
      return command
    }
    return try parseAsRoot()
  }

  /// Says what is to be said about the end of a command, and ends the process.
  private static func finish(_ error: any Error) -> Never {
    // Everything was said.
    if let code = error as? ExitCode { Glibc.exit(code.rawValue) }
    var status = exitCode(for: error).rawValue
    let message = fullMessage(for: error)
    if !message.isEmpty {
      let isHelp = status == ExitStatus.success
      do {
        try StandardDescriptors.write(
          message + "\n", to: isHelp ? StandardDescriptors.output : StandardDescriptors.error)
      } catch {
        // Where an error cannot be told, its status is all that is left.
        if isHelp {
          report(error.description)
          status = ExitStatus.failure
        }
      }
    }
    Glibc.exit(status)
  }

  /// A message to the person at the keyboard, on standard error.
  static func report(_ message: String) { say("ringside: \(message)\n") }

  /// Text for standard error, as it is. Nothing can be done where even that fails.
  static func say(_ text: String) { try? StandardDescriptors.write(text, to: StandardDescriptors.error) }
}
