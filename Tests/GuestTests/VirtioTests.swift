import Testing

extension GuestTests {
  /// Virtio's smaller devices with Debian's drivers, over PCI and as registers in memory.
  @Suite struct VirtioTests {
    static let machines = ["pc", "micro"]

    private let folder: TemporaryDirectory

    init() throws { folder = try TemporaryDirectory() }

    private func start(_ machine: String, engine: String, _ options: [String]) throws -> GuestConsole {
      let console = try GuestConsole(
        run: [
          "--machine", machine, "--engine", engine, "--memory", "256M", "--no-reboot", "--kernel",
          Program.file("vmlinuz", of: "disks"), "--initrd", Program.file("initrd.gz", of: "disks"), "--append",
          "console=ttyS0 quiet",
        ] + options)
      try console.waitForShell()
      return console
    }

    private func end(_ console: GuestConsole) throws {
      try console.type("poweroff -f\n")
      #expect(try console.waitForEnd() == .status(0), "\(console.transcript.suffix(500)) \(console.errors)")
    }

    @Test(arguments: machines, Program.engines) func randomBytesCome(machine: String, engine: String) throws {
      let console = try start(machine, engine: engine, ["--rng"])
      let name = try console.run("cat /sys/class/misc/hw_random/rng_current")
      #expect(name.output.hasPrefix("virtio_rng"), "\(name)")
      let read = "dd if=/dev/hwrng bs=512 count=4 2>/dev/null"
      #expect(try console.run("\(read) | wc -c") == ("2048", 0))
      let first = try console.run("\(read) | sha256sum")
      #expect(try console.run("\(read) | sha256sum").output != first.output)
      try end(console)
    }

    @Test(arguments: machines, Program.engines) func consoleTalks(machine: String, engine: String) throws {
      let socket = folder.file("hvc0")
      let console = try start(machine, engine: engine, ["--console", "unix:\(socket)"])
      let client = try SocketClient(path: socket)
      // Linux forgets a terminal's settings when nobody has it open any more.
      #expect(try console.run("exec 3<>/dev/hvc0; stty -F /dev/hvc0 raw -echo").status == 0)
      // More than a queue holds, and every byte in its place.
      #expect(try console.run("seq 1 5000 > /dev/hvc0 & sleep 1").status == 0)
      let numbers = (1...5000).map { "\($0)\n" }.joined()
      #expect(client.receive(numbers.utf8.count) == numbers)
      try console.type("echo 'AS''KED'; head -c 9000 /dev/hvc0 | sha256sum\n")
      try console.wait(for: "ASKED\r\n")
      let text = String(repeating: "123456789", count: 1000)
      client.send(text)
      let sum = try Program.runOnHost("printf '\(text)' | sha256sum").output.prefix(64)
      try console.wait(for: String(sum))
      try end(console)
    }

    @Test(arguments: ["pc"]) func balloonGivesMemoryBack(machine: String) throws {
      let socket = folder.file("control")
      let console = try start(machine, engine: "translate", ["--balloon", "0", "--control", socket])
      // Linux counts what it may take back when it is short of memory as its own still, but not as free.
      func freeMemory() throws -> Int {
        (Int(try console.run("awk '/^MemFree/ { print $2 }' /proc/meminfo").output) ?? 0) / 1024
      }
      let before = try freeMemory()
      func ask(_ size: String) throws -> ProgramRun { try Program.run(["balloon", "--control", socket, size]) }
      func wait(until isReached: (Int) -> Bool) throws -> Int {
        var free = try freeMemory()
        for _ in 0..<60 where !isReached(free) {
          _ = try console.run("sleep 1")
          free = try freeMemory()
        }
        return free
      }
      #expect(try ask("96M").ending == .status(0))
      let inflated = try wait { $0 <= before - 92 }
      #expect(abs(before - 96 - inflated) <= 4, "\(before) MiB free, then \(inflated)")
      #expect(try ask("0").ending == .status(0))
      let deflated = try wait { $0 >= before - 4 }
      #expect(abs(before - deflated) <= 4, "\(before) MiB free, then \(deflated)")
      for size in ["250M", "1T", "5000"] {
        let refused = try ask(size)
        #expect(refused.ending == .status(1) && refused.errors.contains("ringside: "), "\(refused)")
      }
      try end(console)
    }

    /// What the guest has no use for any more goes back to the host by itself.
    @Test(arguments: machines) func freePagesAreReported(machine: String) throws {
      let console = try start(machine, engine: "translate", ["--balloon", "0"])
      /// Guest memory that the host keeps, in MiB.
      func used() throws -> Int {
        let line = "awk '/^RssShmem/ { print $2 }' /proc/\(console.process.identifier)/status"
        return (Int(try Program.runOnHost(line).output.dropLast()) ?? 0) / 1024
      }
      let write = "dd if=/dev/zero of=/file bs=1M count=64 2>/dev/null; wc -c < /file"
      #expect(try console.run(write) == ("67108864", 0))
      let before = try used()
      #expect(try console.run("rm /file").status == 0)
      for _ in 0..<30 where try used() > before - 48 { _ = try console.run("sleep 1") }
      let after = try used()
      #expect(after <= before - 48, "\(before) MiB, then \(after)")
      // It is the guest's again when it wants it.
      #expect(try console.run(write) == ("67108864", 0))
      try end(console)
    }

    /// A machine goes on from a snapshot on the other engine, and its devices with it.
    @Test(arguments: machines) func snapshotsKeepTheDevices(machine: String) throws {
      let (control, hvc, file) = (folder.file("control"), folder.file("hvc"), folder.file("snapshot"))
      let console = try start(
        machine, engine: "translate",
        ["--rng", "--console", "unix:\(hvc)", "--balloon", "32M", "--control", control])
      let free = "awk '/^MemFree/ { print int($2 / 4096) }' /proc/meminfo"
      let read = "dd if=/dev/hwrng bs=512 count=4 2>/dev/null | wc -c"
      #expect(try console.run("stty -F /dev/hvc0 raw -echo; \(read)") == ("2048", 0))
      _ = try console.run("sleep 2")
      let memory = try #require(Int(try console.run(free).output))
      let save = try Program.run(["snapshot", "save", "--control", control, file])
      #expect(save.ending == .status(0), "\(save)")
      console.process.kill()
      for engine in Program.engines {
        let restored = try GuestConsole([
          Program.path, "snapshot", "restore", file, "--engine", engine, "--control", control,
        ])
        try restored.type("\n")
        try restored.wait(for: "# ")
        let restoredMemory = try #require(Int(try restored.run(free).output))
        #expect(abs(restoredMemory - memory) <= 1)
        #expect(try restored.run(read) == ("2048", 0))
        let client = try SocketClient(path: hvc)
        #expect(try restored.run("echo still here > /dev/hvc0").status == 0)
        #expect(client.receive(10) == "still here")
        // 32 MiB come back.
        #expect(try Program.run(["balloon", "--control", control, "0"]).ending == .status(0))
        let given = try restored.run("sleep 2; \(free)")
        #expect((Int(given.output) ?? 0) >= restoredMemory + 7)
        try end(restored)
      }
    }
  }
}
