import Glibc
import Testing

extension GuestTests {
  /// Small devices under Debian's generic kernel and its drivers: what the guest sees of them, and what they do to it.
  @Suite struct SmallDeviceTests {
    private let folder: TemporaryDirectory

    init() throws { folder = try TemporaryDirectory() }

    private func start(_ options: [String], append: String = "") throws -> GuestConsole {
      let console = try GuestConsole(
        run: [
          "--memory", "256M", "--kernel", Program.file("vmlinuz", of: "devices"), "--initrd",
          Program.file("initrd.gz", of: "devices"), "--append", "console=ttyS0 quiet \(append)",
        ] + options)
      try console.waitForShell()
      return console
    }

    private func load(_ modules: [String], into console: GuestConsole) throws {
      for module in modules { #expect(try console.run("insmod /modules/\(module).ko").status == 0, "\(module)") }
    }

    private func end(_ console: GuestConsole) throws {
      try console.type("poweroff -f\n")
      #expect(
        try console.waitForEnd() == .status(0), "\(console.transcript.suffix(500)) \(console.errors)")
    }

    @Test(arguments: Program.engines) func secondSerialPort(engine: String) throws {
      let path = folder.file("socket")
      let console = try start(["--engine", engine, "--serial", "stdio", "--serial", "unix:\(path)"])
      let port = try console.run("grep '^1:' /proc/tty/driver/serial").output
      #expect(port.hasPrefix("1: uart:16550A port:000002F8 irq:3"), "\(port)")
      let client = try SocketClient(path: path)
      #expect(try console.run("stty -F /dev/ttyS1 raw -echo; echo from the guest > /dev/ttyS1").status == 0)
      #expect(client.receive(15) == "from the guest\n")
      try console.type("head -c 14 < /dev/ttyS1; echo .\n")
      // Not before the guest listens.
      usleep(500_000)
      client.send("from the host\n")
      try console.wait(for: "from the host")
      try end(console)
    }

    @Test(arguments: Program.engines) func panicIsTold(engine: String) throws {
      let console = try start(["--engine", engine, "--panic", "end"])
      try load(["pvpanic", "pvpanic-mmio"], into: console)
      try console.type("echo c > /proc/sysrq-trigger\n")
      #expect(try console.waitForEnd() == .status(3))
      #expect(console.errors == "ringside: the guest's kernel has crashed\n")
    }

    @Test func panicStartsAgain() throws {
      let console = try start(["--panic", "reset"])
      try load(["pvpanic", "pvpanic-mmio"], into: console)
      try console.type("echo c > /proc/sysrq-trigger\n")
      try console.waitForShell()
      #expect(console.errors == "ringside: warning: the guest's kernel has crashed\n")
      try end(console)
    }

    /// A guest that feeds its watchdog runs on; one that stops is reset, and the chip remembers why.
    @Test(arguments: Program.engines) func watchdogResets(engine: String) throws {
      let console = try start(["--engine", engine, "--watchdog", "reset"])
      try load(["watchdog", "i6300esb"], into: console)
      #expect(try console.run("cat /sys/class/watchdog/watchdog0/identity") == ("i6300ESB timer", 0))
      #expect(try console.run("cat /sys/class/watchdog/watchdog0/bootstatus").output == "0")
      let feed = "exec 3>/dev/watchdog; for i in 1 2 3 4 5 6; do sleep 1; echo >&3; done; echo V >&3; exec 3>&-"
      #expect(try console.run("rmmod i6300esb; insmod /modules/i6300esb.ko heartbeat=3; \(feed)").status == 0)
      #expect(try console.run("sleep 4; echo $((6*7))") == ("42", 0))
      try console.type("sleep 1000 > /dev/watchdog\n")
      try console.waitForShell()
      #expect(console.errors == "ringside: warning: the guest has not reset its watchdog in time\n")
      try load(["watchdog", "i6300esb"], into: console)
      // WDIOF_CARDRESET.
      #expect(try console.run("cat /sys/class/watchdog/watchdog0/bootstatus").output == "32")
      try end(console)
    }

    /// A machine that its watchdog has paused stands still, can be saved as it stands, and be told to go on.
    @Test func watchdogPauses() throws {
      let (control, file) = (folder.file("control"), folder.file("saved"))
      let console = try start(["--watchdog", "pause", "--control", control])
      try load(["watchdog"], into: console)
      #expect(try console.run("insmod /modules/i6300esb.ko heartbeat=2").status == 0)
      try console.type("sleep 1000 > /dev/watchdog & while sleep 1; do echo TICK; done\n")
      let deadline = ContinuousClock.now + .seconds(60)
      while !console.errors.contains("the machine is paused"), ContinuousClock.now < deadline {
        console.process.pump(until: .now + .milliseconds(100))
      }
      #expect(console.errors.contains("the machine is paused"), "\(console.errors)")
      let said = console.transcript.count
      console.process.pump(until: .now + .seconds(2))
      let save = try Program.run(["snapshot", "save", "--control", control, file])
      #expect(save.ending == .status(0), "\(save)")
      console.process.pump(until: .now + .seconds(2))
      #expect(console.transcript.count - said < 20, "it stands still after it was saved, too")
      func ask(_ word: String) throws -> ProgramRun { try Program.run([word, "--control", control]) }
      let again = try ask("pause")
      #expect(again.ending == .status(1) && again.errors == "ringside: the machine is paused already\n")
      #expect(try ask("resume").ending == .status(0))
      try console.wait(for: "TICK\r\nTICK")
      let early = try ask("resume")
      #expect(early.ending == .status(1) && early.errors == "ringside: the machine is not paused\n")
      #expect(try ask("pause").ending == .status(0))
      console.process.signalChild(SIGTERM)
      _ = try console.waitForEnd()
    }
  }
}
