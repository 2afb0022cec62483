import ArgumentParser

/// The socket by which a running machine is reached.
struct ControlOption: ParsableArguments {
  @Option(help: ArgumentHelp("The socket that the machine was given with 'run --control'.", valueName: "socket"))
  var control: String

  /// Asks the machine, and waits for its answer.
  func ask(_ request: ControlRequest) throws {
    try reportingFailures { try ControlServer.ask(request, path: control) }
  }
}
