import Testing

extension GuestTests {
  /// The machine without legacy.
  @Suite struct MicroMachineTests {
    @Test(arguments: Program.engines, ["1", "2"]) func defaultGuestBoots(engine: String, count: String) throws {
      let console = try GuestConsole(
        run: [
          "--machine", "micro", "--engine", engine, "--cpus", count, "--no-reboot", "--append",
          "console=ttyS0 quiet panic=-1",
        ])
      try console.waitForShell()
      #expect(try console.run("nproc") == (count, 0))
      let clock = try console.run("cat /sys/devices/system/clocksource/clocksource0/current_clocksource").output
      #expect(["tsc", "kvm-clock"].contains(clock))
      #expect(try console.run("ls /sys/bus/pci/devices 2>/dev/null | wc -l") == ("0", 0))
      // One second is one second.
      let start = ContinuousClock.now
      #expect(try console.run("sleep 1").status == 0)
      #expect(ContinuousClock.now - start > .milliseconds(990))
      try console.type("poweroff -f\n")
      #expect(try console.waitForEnd() == .status(0), "\(console.transcript.suffix(500)) \(console.errors)")
      #expect(console.errors == "")
    }

    /// By the PVH entry point of the same kernel, unpacked; and a reset begins anew.
    @Test(arguments: Program.engines) func unpackedKernelBootsAndResets(engine: String) throws {
      let folder = try TemporaryDirectory()
      let kernel = folder.file("vmlinux")
      let unpack = try Program.runOnHost(
        "'\(Program.packageRoot)/Scripts/unpack-kernel' '\(Program.file("vmlinuz", of: "disks"))' '\(kernel)'")
      #expect(unpack.ending == .status(0), "\(unpack)")
      let console = try GuestConsole(
        run: [
          "--machine", "micro", "--engine", engine, "--kernel", kernel, "--initrd",
          Program.file("initrd.gz", of: "disks"), "--append", "console=ttyS0 quiet panic=-1",
        ])
      try console.waitForShell()
      try console.type("reboot -f\n")
      try console.waitForShell()
      try console.type("poweroff -f\n")
      #expect(try console.waitForEnd() == .status(0), "\(console.transcript.suffix(500)) \(console.errors)")
      // A triple fault would have been told of.
      #expect(console.errors == "")
    }

    @Test(arguments: Program.engines, ["1", "2"]) func disksWork(engine: String, count: String) throws {
      let folder = try TemporaryDirectory()
      let disk = folder.file("disk")
      #expect(try Program.runOnHost("truncate -s 16M '\(disk)'").ending == .status(0))
      let console = try GuestConsole(
        run: [
          "--machine", "micro", "--engine", engine, "--cpus", count, "--memory", "256M", "--no-reboot", "--kernel",
          Program.file("vmlinuz", of: "disks"), "--initrd", Program.file("initrd.gz", of: "disks"), "--append",
          "console=ttyS0 quiet", "--disk", "\(disk),format=raw,if=virtio",
        ])
      try console.waitForShell()
      let check = try console.run("diskcheck /dev/vda 12 400")
      #expect(check.status == 0 && check.output.hasSuffix("all as written"), "\(check)")
      try console.type("poweroff -f\n")
      #expect(try console.waitForEnd() == .status(0), "\(console.transcript.suffix(500)) \(console.errors)")
    }

    @Test func whatItDoesNotHaveIsRefused() throws {
      for options in [["--firmware", "bios"], ["--screen", "x"], ["--test-device"], ["--disk", "x,if=ide"]] {
        let run = try Program.run(["run", "--machine", "micro"] + options)
        #expect(run.ending == .status(64) && run.errors.contains("'micro' machine has no"), "\(run)")
      }
    }
  }
}
