import Glibc
import Testing

extension GuestTests {
  /// Readers that are slow, and a guest that crashes in front of somebody.
  @Suite struct OutputTests {
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
  }
}
