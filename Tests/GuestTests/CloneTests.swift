import Glibc
import Testing

extension GuestTests {
  /// Machines that go on from a snapshot: any number at a time, with what the original had, and told apart.
  @Suite struct CloneTests {
    private static let file = "head -c 16 /dev/vda"

    @Test func clonesGoOnAtTheSameTime() throws {
      let folder = try TemporaryDirectory()
      let (disk, control, saved) = (folder.file("disk"), folder.file("control"), folder.file("saved"))
      #expect(try Program.run(["image", "create", "--format", "qcow2", disk, "64M"]).ending == .status(0))
      let console = try GuestConsole(run: [
        "--memory", "256M", "--kernel", Program.file("vmlinuz", of: "disks"), "--initrd",
        Program.file("initrd.gz", of: "disks"), "--append", "console=ttyS0 quiet", "--control", control, "--disk",
        "\(disk),if=virtio",
      ])
      try console.waitForShell()
      func write(_ text: String) -> String { "echo '\(text)' | dd of=/dev/vda conv=fsync 2>/dev/null; \(Self.file)" }
      #expect(try console.run("echo kept > /tmp/file; \(write("before the saving"))").output == "before the savin")
      #expect(try Program.run(["snapshot", "save", "--control", control, saved]).ending == .status(0))
      // While somebody writes the disk, nobody can rely on it.
      let early = try Program.run(["snapshot", "restore", "--clone", saved, "--serial", "none"])
      #expect(early.ending == .status(1) && early.errors.contains("being written by another machine"), "\(early)")
      #expect(try console.run(write("after the saving")).output == "after the saving")
      console.process.signalChild(SIGTERM)
      _ = try console.waitForEnd()

      let engines = Program.engines.map { ["--engine", $0] } + [["--lockstep", "interpret,translate"]]
      let clones = try engines.map { try GuestConsole([Program.path, "snapshot", "restore", "--clone", saved] + $0) }
      var random: Set<String> = []
      for (index, clone) in clones.enumerated() {
        try clone.type("\n")
        try clone.wait(for: "# ")
        #expect(try clone.run("cat /tmp/file; \(Self.file)") == ("kept\nbefore the savin", 0))
        #expect(try clone.run("dmesg | grep -c 'crng reseeded due to virtual machine fork'") == ("1", 0))
        random.insert(try clone.run("head -c 16 /dev/urandom | md5sum").output)
        #expect(try clone.run(write("written in clone \(index)")).status == 0)
      }
      #expect(random.count == clones.count)
      for (index, clone) in clones.enumerated() {
        let read = "echo 1 > /proc/sys/vm/drop_caches; head -c 18 /dev/vda"
        #expect(try clone.run(read) == ("written in clone \(index)", 0))
        try clone.type("poweroff -f\n")
        #expect(try clone.waitForEnd() == .status(0), "\(clone.errors)")
      }

      // The images are as they were, and the machine itself can go on, more than once.
      for _ in 0..<2 {
        let restored = try GuestConsole([Program.path, "snapshot", "restore", saved])
        try restored.type("\n")
        try restored.wait(for: "# ")
        #expect(try restored.run("cat /tmp/file; \(Self.file)") == ("kept\nbefore the savin", 0))
        #expect(try restored.run("dmesg | grep -c 'crng reseeded due to virtual machine fork'") == ("1", 0))
        try restored.type("poweroff -f\n")
        #expect(try restored.waitForEnd() == .status(0), "\(restored.errors)")
      }
      let check = try Program.runOnHost("qemu-img check '\(disk)'")
      #expect(check.ending == .status(0), "\(check)")
    }
  }
}
