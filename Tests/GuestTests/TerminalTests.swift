import Glibc
import Testing

extension GuestTests {
  /// Somebody sits at a terminal, or input and output come and go as they do in pipelines.
  @Suite struct TerminalTests {
    let directory: TemporaryDirectory

    init() throws { directory = try TemporaryDirectory() }

    /// What a terminal is set to, as far as a raw mode changes it.
    private struct Settings: Equatable {
      let input, output, local: tcflag_t

      init(_ terminal: Int32) {
        var settings = termios()
        tcgetattr(terminal, &settings)
        (input, output, local) = (settings.c_iflag, settings.c_oflag, settings.c_lflag)
      }
    }

    private func start(_ guest: GuestAssembler, _ engine: String, wiring: Wiring) throws -> GuestConsole {
      let kernel = try directory.file("guest.elf", containing: GuestImage.elf(guest))
      return try GuestConsole(
        run: ["--engine", engine, "--memory", "16M", "--kernel", kernel, "--debug-exit", "0xf4"], wiring: wiring)
    }

    /// A guest that says `ready`, sends back each byte that it gets, one higher, and ends itself at a `Q`.
    private var echo: GuestAssembler {
      GuestAssembler { guest in
        guest.setUpSerialPort()
        guest.print("ready\n")
        let again = guest.here()
        let other = guest.makeLabel()
        guest.receive()
        guest.cmp(.eax, UInt32(UInt8(ascii: "Q")))
        guest.jmp(.notEqual, other)
        guest.exit(0)
        guest.place(other)
        guest.add(.eax, 1)
        guest.mov(.edx, GuestAssembler.serialPort)
        guest.out(size: 1)
        guest.jmp(again)
      }
    }

    @Test(arguments: Program.engines) func keysGoToTheGuest(engine: String) throws {
      let console = try start(echo, engine, wiring: .terminal)
      let before = Settings(console.process.terminal)
      try console.wait(for: "ready\r\n")
      #expect(Settings(console.process.terminal) != before, "raw mode")
      // Ctrl-c, Ctrl-z, Ctrl-s, Ctrl-d, Ctrl-v, carriage return: all the guest's. The prefix twice is one Ctrl-a.
      try console.type("\u{3}\u{1a}\u{13}\u{4}\u{16}\r\u{1}\u{1}A")
      try console.wait(for: "\u{4}\u{1b}\u{14}\u{5}\u{17}\u{e}\u{2}B")
      try console.type("\u{1}h")
      try waitForErrors(console, "Ctrl-a x")
      try console.type("\u{1}x")
      #expect(try console.waitForEnd() == .status(0), "\(console.errors)")
      #expect(Settings(console.process.terminal) == before, "the terminal is as it was")
    }

    /// However the program ends, the terminal is as it was before.
    @Test(arguments: Program.engines, [SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGKILL])
    func terminalIsRestored(engine: String, number: Int32) throws {
      let console = try start(echo, engine, wiring: .terminal)
      let before = Settings(console.process.terminal)
      try console.wait(for: "ready\r\n")
      console.process.signalChild(number)
      #expect(try console.waitForEnd() == .signal(number), "\(console.errors)")
      // A guard process sees to it where the program could not.
      let deadline = ContinuousClock.now + .seconds(10)
      while Settings(console.process.terminal) != before, ContinuousClock.now < deadline { usleep(10_000) }
      #expect(Settings(console.process.terminal) == before, "the terminal is as it was")
    }

    @Test(arguments: Program.engines) func terminalIsRestoredAfterACrash(engine: String) throws {
      let kernel = try directory.file(
        "guest.elf",
        containing: GuestImage.elf(
          GuestAssembler { guest in
            guest.setUpSerialPort()
            guest.print("ready\n")
            guest.receive()
            guest.tripleFault()
          }))
      let console = try GuestConsole(
        run: ["--engine", engine, "--memory", "16M", "--kernel", kernel, "--no-reboot"], wiring: .terminal)
      let before = Settings(console.process.terminal)
      try console.wait(for: "ready\r\n")
      try console.type("x")
      #expect(try console.waitForEnd() == .status(3))
      #expect(Settings(console.process.terminal) == before, "the terminal is as it was")
    }

    /// Input that is there before the guest looks, and that ends, is what the guest gets.
    @Test(arguments: Program.engines) func inputFromAPipe(engine: String) throws {
      let console = try start(echo, engine, wiring: .pipes)
      let text = String(repeating: "HAL", count: 2000)
      try console.type(text + "Q")
      console.process.closeInput()
      #expect(try console.waitForEnd() == .status(1), "\(console.errors)")
      #expect(console.transcript == "ready\n" + String(repeating: "IBM", count: 2000))
    }

    @Test(arguments: Program.engines, [.null, .closed] as [Wiring.Input])
    func noInput(engine: String, input: Wiring.Input) throws {
      let guest = GuestAssembler { guest in
        guest.setUpSerialPort()
        guest.print("alone\n")
        guest.exit(0)
      }
      let console = try start(guest, engine, wiring: Wiring(input: input))
      #expect(try console.waitForEnd() == .status(1), "\(console.errors)")
      #expect(console.transcript == "alone\n")
    }

    /// A guest that says more than a pipe holds waits for its reader, and nothing is lost.
    @Test(arguments: Program.engines) func slowReader(engine: String) throws {
      let lines: UInt32 = 30_000
      let guest = GuestAssembler { guest in
        guest.setUpSerialPort()
        guest.loop(.ecx, from: 1, through: lines) { $0.print("All work and no play\n") }
        guest.exit(0)
      }
      let console = try start(guest, engine, wiring: .batch)
      usleep(300_000)
      #expect(try console.waitForEnd() == .status(1), "\(console.errors)")
      #expect(console.transcript == String(repeating: "All work and no play\n", count: Int(lines)))
    }

    /// A reader that has fallen asleep does not keep the program from ending when it is told to.
    @Test(arguments: Program.engines) func sleepingReader(engine: String) throws {
      let guest = GuestAssembler { guest in
        guest.setUpSerialPort()
        let again = guest.here()
        guest.print("All work and no play\n")
        guest.jmp(again)
      }
      let console = try start(guest, engine, wiring: .batch)
      usleep(500_000)
      console.process.signalChild(SIGTERM)
      #expect(try console.waitForEndUnread() == .signal(SIGTERM))
    }

    private func waitForErrors(_ console: GuestConsole, _ text: String) throws {
      let deadline = ContinuousClock.now + GuestConsole.commandLimit
      while !console.errors.contains(text), ContinuousClock.now < deadline {
        console.process.pump(until: .now + .milliseconds(100))
      }
      #expect(console.errors.contains(text))
    }
  }
}
