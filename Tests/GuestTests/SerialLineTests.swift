import Glibc
import Testing

extension GuestTests {
  /// Where the guest's serial line leads, and what becomes of a run when the other end fails.
  @Suite struct SerialLineTests {
    private let directory: TemporaryDirectory

    init() throws { directory = try TemporaryDirectory() }

    /// Says `greeting`, sends back what it gets, and powers off at a full stop.
    private func echo(greeting: String = "up") throws -> String {
      try directory.file(
        "echo",
        containing: GuestImage.elf(
          GuestAssembler { guest in
            guest.setUpSerialPort()
            guest.print(greeting)
            guest.echo(until: ".")
            guest.powerOff()
          }))
    }

    @Test func pipedInputArrivesWholeAndItsEndIsNotTheGuests() throws {
      let console = try GuestConsole(run: ["--kernel", echo()])
      let text = String(repeating: "The quick brown fox \u{1}x ", count: 300)
      // At once, long before the guest looks.
      try console.type(text + ".")
      console.process.closeInput()
      #expect(try console.waitForEnd() == .status(0), "\(console.errors)")
      #expect(console.transcript == "up" + text)
    }

    @Test(arguments: [Wiring.Input.null, .closed]) func noInputIsNoProblem(input: Wiring.Input) throws {
      let kernel = try directory.file(
        "kernel",
        containing: GuestImage.elf(
          GuestAssembler { guest in
            guest.setUpSerialPort()
            guest.print("up")
            guest.powerOff()
          }))
      let run = try Program.run(["run", "--kernel", kernel], wiring: Wiring(input: input))
      #expect(run.ending == .status(0) && run.output == "up" && run.errors.isEmpty, "\(run)")
    }

    @Test(
      arguments: [
        (Wiring.Output.file("/dev/full"), "could not write to standard output: No space left on device"),
        (.closed, "standard output is closed"),
      ])
    func outputThatFailsEndsTheRun(output: Wiring.Output, message: String) throws {
      let run = try Program.run(["run", "--kernel", echo()], wiring: Wiring(input: .null, output: output))
      #expect(run.ending == .status(1) && run.errors.contains(message), "\(run)")
    }

    @Test func readerThatLeavesEndsTheRun() throws {
      let run = try Program.runOnHost("(sleep 1; echo more) | '\(Program.path)' run --kernel '\(echo())' | head -c 2")
      #expect(run.output == "up", "\(run)")
      #expect(run.errors.contains("could not write to standard output: Broken pipe"), "\(run)")
    }

    @Test func fileThatFailsIsNamed() throws {
      let full = try Program.run(["run", "--kernel", echo(), "--serial", "file:/dev/full"])
      #expect(full.ending == .status(1) && full.errors.contains("could not write to '/dev/full'"), "\(full)")
      let path = directory.path + "/no/such/folder"
      let missing = try Program.run(["run", "--kernel", echo(), "--serial", "file:\(path)"])
      #expect(missing.ending == .status(1) && missing.errors.contains(path), "\(missing)")
    }

    @Test func socketServesOneClientAfterAnother() throws {
      let path = directory.file("socket")
      let process = try ChildProcess(
        [Program.path, "run", "--kernel", echo(greeting: ""), "--serial", "unix:\(path)"], wiring: .batch)
      for text in ["one", "two"] {
        let client = try SocketClient(path: path)
        client.send(text)
        #expect(client.receive(text.utf8.count) == text)
      }
      try SocketClient(path: path).send(".")
      #expect(process.waitForEnd(within: .seconds(60)) == .status(0))
      #expect(access(path, F_OK) != 0)
    }

    @Test func debugConsoleGoesToStandardError() throws {
      let kernel = try directory.file(
        "kernel",
        containing: GuestImage.elf(
          GuestAssembler { guest in
            for byte in "debug!".utf8 { guest.out(port: 0xe9, byte) }
            guest.powerOff()
          }))
      let run = try Program.run(["run", "--kernel", kernel])
      #expect(run.ending == .status(0) && run.errors == "debug!", "\(run)")
    }

    @Test func statisticsNamePortsAndDevices() throws {
      let console = try GuestConsole(run: ["--kernel", echo(), "--stats"])
      try console.type("abc.")
      #expect(try console.waitForEnd() == .status(0))
      for text in ["port 0x3f8 (serial)", "guest time"] { #expect(console.errors.contains(text), "\(console.errors)") }
    }

    @Test(arguments: [SIGTERM, SIGINT, SIGHUP, SIGQUIT]) func signalsEndTheRun(number: Int32) throws {
      let console = try GuestConsole(run: ["--kernel", echo()])
      try console.wait(for: "up")
      console.process.signalChild(number)
      #expect(try console.waitForEnd() == .signal(number))
    }
  }
}
