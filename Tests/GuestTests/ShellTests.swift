import Glibc
import Testing

extension GuestTests {
  /// Debian's kernel boots to a shell, and somebody types into it.
  @Suite struct ShellTests {
    /// One boot for all that a person might try first; booting is what takes the time.
    @Test(arguments: Program.engines) func defaultGuestBootsAndWorks(engine: String) throws {
      let console = try GuestConsole(run: ["--engine", engine])
      try console.waitForShell()
      try arithmeticAndPipes(console)
      try identity(console)
      try checksums(console)
      try timerTicks(console)
      try processorFeatures(console)
      try jobControl(console)
      try memoryBeyondTheGuests(console)
      try console.type("poweroff -f\n")
      #expect(try console.waitForEnd() == .status(0), "\(console.transcript.suffix(500)) \(console.errors)")
      #expect(console.errors == "")
    }

    private func arithmeticAndPipes(_ console: GuestConsole) throws {
      #expect(try console.run("echo $((6*7))") == ("42", 0))
      #expect(try console.run("seq 1 1000 | wc -l") == ("1000", 0))
      #expect(try console.run("seq 1 1000 | awk '{ s += $1 * 0.5 } END { print s }'") == ("250250", 0))
      #expect(try console.run("false") == ("", 1))
      #expect(try console.run("echo hello > /tmp/file; rev /tmp/file") == ("olleh", 0))
    }

    /// It is the kernel that Debian built.
    private func identity(_ console: GuestConsole) throws {
      let packages = String(decoding: try contents(ofFile: Program.guest + "/packages"), as: UTF8.self)
      let uname = try console.run("uname -a").output
      let release = try #require(uname.split(separator: " ").dropFirst(2).first)
      #expect(packages.contains("linux-image-\(release)\t"), "\(uname) is from \(packages)")
      #expect(uname.hasPrefix("Linux ringside ") && uname.contains(" x86_64"), "\(uname)")
    }

    /// What is computed in the guest is what the host computes.
    private func checksums(_ console: GuestConsole) throws {
      for tool in ["sha256sum", "md5sum", "sha512sum"] {
        let command = "dd if=/dev/zero bs=1M count=4 2>/dev/null | \(tool)"
        let host = try Program.runOnHost(command)
        #expect(try console.run(command).output + "\n" == host.output, "\(command)")
      }
      let busybox = try Program.runOnHost("sha256sum < '\(Program.guest)/busybox'")
      #expect(try console.run("sha256sum < /bin/busybox").output + "\n" == busybox.output)
      #expect(try console.run("gzip -c /bin/busybox | gunzip -c | cmp - /bin/busybox").status == 0)
    }

    /// The timer that drives the kernel interrupts it again and again.
    private func timerTicks(_ console: GuestConsole) throws {
      let first = try ticks(console)
      #expect(try console.run("sleep 1").status == 0)
      let second = try ticks(console)
      #expect(second > first, "\(first) ticks, then \(second)")
    }

    /// Ticks of the local APIC's timer and of interrupt 0, whichever the kernel uses.
    private func ticks(_ console: GuestConsole) throws -> Int {
      let (table, status) = try console.run("cat /proc/interrupts")
      #expect(status == 0)
      let counts = table.split(separator: "\n").compactMap { line -> Int? in
        let words = line.split(separator: " ")
        return words.count > 1 && (words[0] == "LOC:" || words[0] == "0:") ? Int(words[1]) : nil
      }
      #expect(!counts.isEmpty, "no timer in \(table)")
      return counts.reduce(0, +)
    }

    private func processorFeatures(_ console: GuestConsole) throws {
      let table = try console.run("cat /proc/cpuinfo").output
      let line = try #require(table.split(separator: "\n").first { $0.hasPrefix("flags") })
      let flags = Set(line.split { $0 == " " || $0 == "\t" })
      let expected: [Substring] = [
        "fpu", "tsc", "msr", "pae", "cx8", "apic", "pge", "cmov", "pat", "clflush", "mmx", "fxsr", "sse", "sse2",
        "syscall", "nx", "rdtscp", "lm", "constant_tsc", "pni", "ssse3", "cx16", "pcid", "sse4_1", "sse4_2", "popcnt",
        "tsc_deadline_timer", "xsave", "rdrand", "fsgsbase", "smep", "rdseed", "smap", "umip",
      ]
      #expect(flags.isSuperset(of: expected), "missing: \(Set(expected).subtracting(flags)) of \(flags.sorted())")
    }

    /// The console is the shell's terminal: a control character stops what runs in the foreground.
    private func jobControl(_ console: GuestConsole) throws {
      try console.type("echo 'WAIT''ING'; sleep 1000\n")
      try console.wait(for: "WAITING\r\n")
      // The shell, which ignores the key, has the terminal until it has given it to what it starts.
      usleep(500_000)
      try console.type("\u{3}")
      try console.wait(for: "# ")
      try console.type("echo status is $?\n")
      try console.wait(for: "status is 130\r\n")
      // Interactive shells ignore SIGTERM, and so do their children until they have started.
      #expect(try console.run("sleep 1000 & sleep 1; kill %1; wait %1 2>/dev/null").status == 143)
    }

    /// What the program takes for itself, beside the guest's RAM, which is a shared mapping.
    private func memoryBeyondTheGuests(_ console: GuestConsole) throws {
      let status = "/proc/\(console.process.identifier)/status"
      let own = try Program.runOnHost("awk '/^Rss(Anon|File):/ { sum += $2 } END { print sum }' \(status)").output
      let kilobytes = try #require(Int(own.dropLast()), "\(own)")
      #expect((1...64 << 10).contains(kilobytes), "\(kilobytes) kB")
    }

    /// Leaving the shell switches the machine off, in a guest that got everything by option.
    @Test(arguments: Program.engines) func leavingTheShellPowersOff(engine: String) throws {
      let console = try GuestConsole(
        run: [
          "--engine", engine, "--kernel", Program.kernel, "--initrd", Program.initialRAMDisk, "--memory", "256M",
          "--append", "console=ttyS0 quiet word=here", "--no-reboot",
        ])
      try console.waitForShell()
      #expect(try console.run("cat /proc/cmdline").output.contains("word=here"))
      let kilobytes = try console.run("awk '/MemTotal/ { print $2 }' /proc/meminfo").output
      #expect((200_000...262_144).contains(Int(kilobytes) ?? 0), "MemTotal: \(kilobytes) kB")
      try console.type("exit\n")
      #expect(try console.waitForEnd() == .status(0), "\(console.transcript.suffix(500)) \(console.errors)")
    }

    /// Two processors work at once, interrupt each other and share memory.
    @Test(arguments: Program.engines) func twoProcessorsWork(engine: String) throws {
      let console = try GuestConsole(run: ["--engine", engine, "--cpus", "2"])
      try console.waitForShell()
      #expect(try console.run("nproc") == ("2", 0))
      let sum = "dd if=/dev/zero bs=1M count=4 2>/dev/null | sha256sum"
      let host = try Program.runOnHost("\(sum); \(sum)")
      #expect(try console.run("(\(sum)) & (\(sum)); wait").output.contains(host.output.dropLast()))
      let count = "awk 'BEGIN { for (i = 1; i <= 9999; i++) s += i; print s }'"
      #expect(
        try console.run("for cpu in 0 1; do taskset -c $cpu \(count); done") == ("49995000\n49995000", 0))
      let ticks = try console.run("awk '$1 == \"LOC:\" { print ($2 > 0) ($3 > 0) }' /proc/interrupts")
      #expect(ticks == ("11", 0), "each has its timer")
      try console.type("poweroff -f\n")
      #expect(try console.waitForEnd() == .status(0), "\(console.transcript.suffix(500)) \(console.errors)")
    }

    /// A kernel that crashes and resets the machine ends a run that is not to reboot.
    @Test(arguments: Program.engines) func kernelCrashEndsTheRun(engine: String) throws {
      let console = try GuestConsole(
        run: [
          "--engine", engine, "--kernel", Program.kernel, "--initrd", Program.initialRAMDisk, "--append",
          "console=ttyS0 quiet panic=-1", "--no-reboot",
        ])
      try console.waitForShell()
      try console.type("echo c > /proc/sysrq-trigger\n")
      try console.wait(for: "Kernel panic - not syncing: sysrq triggered crash")
      #expect(try console.waitForEnd() == .status(0), "\(console.transcript.suffix(500)) \(console.errors)")
    }

    /// `reboot -f` starts the guest again.
    @Test(arguments: Program.engines) func rebootStartsAgain(engine: String) throws {
      let console = try GuestConsole(run: ["--engine", engine])
      try console.waitForShell()
      try console.type("reboot -f\n")
      try console.waitForShell()
      #expect(try console.run("echo $((6*7))") == ("42", 0))
      try console.type("poweroff -f\n")
      #expect(try console.waitForEnd() == .status(0), "\(console.transcript.suffix(500)) \(console.errors)")
    }
  }
}
