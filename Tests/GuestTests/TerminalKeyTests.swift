import Glibc
import Testing

extension GuestTests {
  /// The program on a terminal: keys, and settings that come back whatever happens.
  @Suite struct TerminalKeyTests {
    private let directory: TemporaryDirectory
    private let console: GuestConsole
    private let original: termios

    /// Starts a guest that says "up" and then echoes what it gets, up to a full stop.
    init() throws {
      // A crash is to be a death and no conversation.
      setenv("SWIFT_BACKTRACE", "enable=no", 1)
      directory = try TemporaryDirectory()
      let kernel = try directory.file(
        "echo",
        containing: GuestImage.elf(
          GuestAssembler { guest in
            guest.setUpSerialPort()
            guest.print("up")
            guest.echo(until: ".")
            guest.powerOff()
          }))
      // A shell that lives on: the settings are gone with the last process that has the terminal open.
      console = try GuestConsole(
        ["/bin/sh", "-c", "stty -a >/dev/null; echo begin; exec '\(Program.path)' run --kernel '\(kernel)'"],
        wiring: .terminal)
      try console.wait(for: "begin")
      original = Self.settings(console)
      try console.wait(for: "up")
      #expect(console.errors.contains("Ctrl-a x ends"))
      #expect(isRaw)
    }

    private static func settings(_ console: GuestConsole) -> termios {
      var settings = termios()
      tcgetattr(console.process.terminal, &settings)
      return settings
    }

    private var isRaw: Bool { Self.settings(console).c_lflag & tcflag_t(ICANON | ECHO | ISIG) == 0 }

    private var isRestored: Bool {
      let now = Self.settings(console)
      return now.c_lflag == original.c_lflag && now.c_iflag == original.c_iflag && now.c_oflag == original.c_oflag
        && now.c_cflag == original.c_cflag
    }

    /// The process's state as the kernel tells it: "S" sleeping, "T" stopped …
    private var state: Substring? {
      let descriptor = open("/proc/\(console.process.identifier)/stat", O_RDONLY | O_CLOEXEC)
      guard descriptor >= 0 else { return nil }
      defer { close(descriptor) }
      let text = [UInt8](unsafeUninitializedCapacity: 4096) { $1 = max(0, read(descriptor, $0.baseAddress, $0.count)) }
      // Behind the name, which is in parentheses.
      return String(decoding: text, as: UTF8.self).split(separator: ")").last?.split(separator: " ").first
    }

    /// Waits at most five seconds.
    private func becomesTrue(_ condition: () -> Bool) -> Bool {
      let deadline = ContinuousClock.now + .seconds(5)
      while !condition(), ContinuousClock.now < deadline { usleep(1000) }
      return condition()
    }

    @Test func everyKeyReachesTheGuest() throws {
      try console.type("a\u{3}\u{1a}\u{1c}\r\u{1}\u{1}z")
      #expect(try console.wait(for: "z") == "a\u{3}\u{1a}\u{1c}\r\u{1}")
      try console.type(".")
      #expect(try console.waitForEnd() == .status(0))
      #expect(isRestored)
    }

    @Test func prefixKeysHelpAndEnd() throws {
      try console.type("\u{1}h")
      #expect(
        becomesTrue {
          console.process.pump(until: .now + .milliseconds(10))
          return console.errors.contains("send Ctrl-a to the guest")
        })
      try console.type("\u{1}x")
      #expect(try console.waitForEnd() == .status(0))
      #expect(isRestored)
    }

    @Test(arguments: [SIGINT, SIGTERM, SIGHUP, SIGQUIT]) func signalsRestoreTheTerminal(number: Int32) throws {
      console.process.signalChild(number)
      #expect(try console.waitForEnd() == .signal(number))
      #expect(isRestored)
    }

    @Test(arguments: [SIGKILL, SIGABRT, SIGSEGV]) func suddenDeathRestoresTheTerminal(number: Int32) throws {
      console.process.signalChild(number)
      #expect(try console.waitForEnd() == .signal(number))
      // Whoever restores it is a moment behind.
      #expect(becomesTrue { isRestored })
    }

    @Test func stoppedProgramLeavesTheTerminalAlone() throws {
      console.process.signalChild(SIGTSTP)
      // Before it has stopped, SIGCONT would come too early.
      #expect(becomesTrue { state == "T" })
      #expect(isRestored)
      console.process.signalChild(SIGCONT)
      #expect(becomesTrue { isRaw })
      try console.type("b.")
      try console.wait(for: "b")
      #expect(try console.waitForEnd() == .status(0))
      #expect(isRestored)
    }
  }
}
