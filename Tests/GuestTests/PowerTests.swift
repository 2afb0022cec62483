import Glibc
import Testing

extension GuestTests {
  /// Sleeping, waking and resetting: Debian's generic kernel, started directly and by both firmwares.
  @Suite struct PowerTests {
    enum Start: String, CaseIterable, Sendable { case directly, bios, uefi }

    private func start(_ start: Start, engine: String, _ options: [String] = []) throws -> GuestConsole {
      let way =
        start == .directly
        ? [
          "--kernel", Program.file("vmlinuz", of: "devices"), "--initrd", Program.file("initrd.gz", of: "devices"),
          "--append", "console=ttyS0 no_console_suspend",
        ]
        : [
          "--firmware", start.rawValue, "--disk",
          Program.file("boot.img", of: "devices") + ",format=raw,snapshot=on",
        ]
      let console = try GuestConsole(run: ["--engine", engine] + way + options)
      try console.waitForShell()
      #expect(try console.run("[ -d /sys/firmware/efi ]").status == (start == .uefi ? 0 : 1))
      return console
    }

    private func end(_ console: GuestConsole) throws {
      try console.type("poweroff -f\n")
      #expect(
        try console.waitForEnd() == .status(0), "\(console.transcript.suffix(500)) \(console.errors)")
    }

    /// A machine sleeps until the clock's alarm, and until somebody presses its power button; what it had is still there.
    @Test(arguments: Start.allCases, Program.engines) func suspensionToMemory(way: Start, engine: String) throws {
      let console = try start(way, engine: engine, ["--cpus", "2"])
      #expect(try console.run("dmesg -n 7; cat /sys/power/mem_sleep") == ("s2idle [deep]", 0))
      #expect(try console.run("insmod /modules/button.ko; echo kept > /tmp/file").status == 0)
      let alarm = "echo 0 > /sys/class/rtc/rtc0/wakealarm; echo +3 > /sys/class/rtc/rtc0/wakealarm"
      let slept = try console.run("\(alarm); echo mem > /sys/power/state")
      #expect(slept.status == 0 && slept.output.contains("Waking up from system sleep state S3"), "\(slept)")
      #expect(try console.run("cat /tmp/file /sys/power/suspend_stats/success") == ("kept\n1", 0))

      try console.type("echo mem > /sys/power/state\n")
      try console.wait(for: "PM: suspend entry (deep)")
      // Freezing takes a moment; a press that comes while the system is awake is for it alone.
      usleep(3_000_000)
      for _ in 0..<10 {
        console.process.signalChild(SIGUSR1)
        if (try? console.wait(for: "PM: suspend exit", within: .seconds(2))) != nil { break }
      }
      #expect(try console.run("cat /tmp/file; nproc").output == "kept\n2")
      #expect(try console.run("cat /sys/power/suspend_stats/success") == ("2", 0))
      try end(console)
    }

    /// The system is told of the power button.
    @Test(arguments: Start.allCases) func powerButton(way: Start) throws {
      let console = try start(way, engine: "translate")
      #expect(try console.run("insmod /modules/button.ko").status == 0)
      console.process.signalChild(SIGUSR1)
      usleep(500_000)
      let count = "awk '{ print $1 }' /sys/firmware/acpi/interrupts/ff_pwr_btn"
      #expect(try console.run(count) == ("1", 0))
      try end(console)
    }

    /// Every documented way to reset the machine leads back to the shell.
    @Test(arguments: Start.allCases) func resets(way: Start) throws {
      let console = try start(way, engine: "translate")
      for type in ["acpi", "kbd", "triple", "pci"] + (way == .uefi ? ["efi"] : []) {
        try console.type("echo \(type) > /sys/kernel/reboot/type; echo 1 > /sys/kernel/reboot/force; reboot -f\n")
        try console.waitForShell()
      }
      // System control port A, the reset control register, the keyboard controller.
      for (port, value) in [(0x92, "001"), (0xcf9, "006"), (0x64, "376")] {
        try console.type("printf '\\\(value)' | dd of=/dev/port bs=1 seek=\(port)\n")
        try console.waitForShell()
      }
      #expect(try console.run("echo $((6*7))") == ("42", 0))
      try end(console)
    }

    /// OVMF's shell resets and switches off.
    @Test func uefiShellResets() throws {
      let console = try GuestConsole(run: ["--firmware", "uefi"])
      for command in ["reset", "reset -w", "reset -s"] {
        try console.wait(for: "to skip", within: GuestConsole.bootLimit)
        try console.type("\u{1b}")
        try console.wait(for: "Shell> ")
        try console.type("\(command)\r")
      }
      #expect(try console.waitForEnd() == .status(0))
    }
  }
}
