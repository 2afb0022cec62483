import Testing

extension GuestTests {
  /// Debian's kernel with its drivers of disk controllers, and what it writes and reads.
  @Suite struct DiskTests {
    enum Interface: String, CaseIterable {
      case ide, ahci, virtio, nvme

      /// The first disk's name in the guest.
      var device: String {
        switch self {
        case .ide, .ahci: "/dev/sda"
        case .virtio: "/dev/vda"
        case .nvme: "/dev/nvme0n1"
        }
      }
    }

    private static let noise = "head -c 8M /dev/urandom"

    private func start(
      _ interface: Interface, engine: String, append: String = "", _ disks: [String]
    ) throws -> GuestConsole {
      let console = try GuestConsole(
        run: [
          "--engine", engine, "--cpus", "2", "--memory", "256M", "--no-reboot", "--kernel",
          Program.file("vmlinuz", of: "disks"),
          "--initrd", Program.file("initrd.gz", of: "disks"), "--append",
          "console=ttyS0 quiet \(append)",
        ]
          // Discs are for drives that have a door.
          + disks.flatMap {
            ["--disk", "\($0),if=\($0.contains("cdrom") && interface != .ahci ? "ide" : interface.rawValue)"]
          })
      try console.waitForShell()
      return console
    }

    /// Makes image files by a shell command of the host.
    private func make(_ command: String) throws {
      let run = try Program.runOnHost(command)
      #expect(run.ending == .status(0), "\(run)")
    }

    private func end(_ console: GuestConsole) throws {
      try console.type("poweroff -f\n")
      #expect(
        try console.waitForEnd() == .status(0),
        "\(console.transcript.suffix(500)) \(console.errors)")
    }

    /// As sha256sum prints it for its standard input.
    private func checksum(_ file: String, skip: Int = 0, count: Int = 64 << 20) throws -> String {
      let part = "tail -c +\(skip + 1) '\(file)' | head -c \(count)"
      return String(try Program.runOnHost("\(part) | sha256sum").output.dropLast())
    }

    /// Many threads write and read a disk and compare; a disc and a disk read as their images are; the log has no errors.
    @Test(arguments: Interface.allCases) func disksHoldWhatIsWritten(interface: Interface) throws {
      let folder = try TemporaryDirectory()
      let (disk, other, disc) = (folder.file("disk"), folder.file("other"), folder.file("disc"))
      try make("truncate -s 64M '\(disk)' && \(Self.noise) > '\(other)' && \(Self.noise) > '\(disc)'")
      let console = try start(
        interface, engine: "translate",
        ["\(disk),format=raw", "\(disc),format=raw,media=cdrom", "\(other),format=raw,readonly=on,serial=ABC"])
      // A kernel may find AHCI's ports in any order: disks go by their sizes.
      let naming =
        "for d in /sys/block/sd* /sys/block/vd* /sys/block/nvme*; do"
        + " [ -e $d ] && ln -s /dev/${d##*/} /tmp/$(cat $d/size); done; true"
      #expect(try console.run("\(naming); cd /tmp; mv 131072 disk; mv 16384 other").status == 0)
      let check = try console.run("diskcheck /tmp/disk 48 2000")
      #expect(check.status == 0 && check.output.hasSuffix("all as written"), "\(check)")
      #expect(try console.run("sha256sum < /tmp/other") == (try checksum(other), 0))
      #expect(try console.run("dd if=/dev/sr0 bs=64k 2>/dev/null | sha256sum") == (try checksum(disc), 0))
      // A pattern that the host finds, written past the cache and flushed.
      let copy =
        "head -c 4194304 /tmp/other > /tmp/noise; dd if=/tmp/noise of=/tmp/disk bs=1M seek=4 oflag=direct conv=fsync"
      #expect(try console.run(copy).status == 0)
      #expect(try checksum(disk, skip: 4 << 20, count: 4 << 20) == checksum(other, count: 4 << 20))
      // What nobody needs any more is given back to the host.
      #expect(try console.run("blkdiscard -o 0 -l 50331648 /tmp/disk").status == 0)
      let kilobytes = try Program.runOnHost("du -k '\(disk)' | cut -f 1").output.dropLast()
      #expect((Int(kilobytes) ?? .max) < 8192, "\(kilobytes) KiB are left")
      let errors = "dmesg | grep -E 'ata[0-9.]+: (exception|failed|error|SError|limiting)|I/O error'"
      #expect(try console.run(errors) == ("", 1))
      #expect(try console.run("dd if=/tmp/noise of=/tmp/other bs=1M count=1 oflag=direct").status == 1)
      try end(console)
    }

    /// Drivers that may not use DMA move every word through the data register.
    @Test(arguments: Program.engines) func programmedTransfers(engine: String) throws {
      let folder = try TemporaryDirectory()
      let (disk, disc) = (folder.file("disk"), folder.file("disc"))
      try make("truncate -s 8M '\(disk)' && \(Self.noise) > '\(disc)'")
      let console = try start(
        .ide, engine: engine, append: "libata.dma=0",
        ["\(disk),format=raw", "\(disc),format=raw,media=cdrom"])
      let check = try console.run("diskcheck /dev/sda 4 100")
      #expect(check.status == 0 && check.output.hasSuffix("all as written"), "\(check)")
      #expect(
        try console.run("dd if=/dev/sr0 bs=64k count=16 2>/dev/null | sha256sum")
          == (try checksum(disc, count: 1 << 20), 0))
      try end(console)
    }

    /// What a guest has synchronised is there after the process was killed in the middle of its work, and the file system
    /// is consistent; so is the image that it is in.
    @Test(arguments: Interface.allCases, ["raw", "qcow2"])
    func fileSystemSurvivesAKill(interface: Interface, format: String) throws {
      let folder = try TemporaryDirectory()
      let (disk, image) = (folder.file("disk"), folder.file("image"))
      try make(
        "truncate -s 64M '\(disk)' && /sbin/mkfs.ext4 -q '\(disk)' && qemu-img convert -O \(format) '\(disk)' '\(image)'"
      )
      let console = try start(interface, engine: "translate", ["\(image),format=\(format)"])
      let work =
        "mkdir /mnt; mount \(interface.device) /mnt; cp /bin/busybox /mnt/kept; sync; cp /mnt/kept /mnt/other"
      #expect(try console.run(work).status == 0)
      try console.type(
        "while true; do cp /bin/busybox /mnt/$((n += 1)); [ $n -gt 9 ] && n=0 && rm /mnt/?; echo 'AR''OUND'; done\n"
      )
      for _ in 0..<12 { try console.wait(for: "AROUND") }
      console.process.kill()
      _ = console.process.waitForEnd(within: .seconds(10))
      if format == "qcow2" {
        // 3: clusters that nobody uses are no more than lost space.
        let check = try Program.runOnHost("qemu-img check '\(image)'")
        #expect(check.ending == .status(0) || check.ending == .status(3), "\(check)")
      }
      try make("qemu-img convert -f \(format) -O raw '\(image)' '\(disk)'")
      // 1: the journal was replayed.
      let repair = try Program.runOnHost("/sbin/e2fsck -p '\(disk)'")
      #expect(repair.ending == .status(0) || repair.ending == .status(1), "\(repair)")
      #expect(try Program.runOnHost("/sbin/e2fsck -fn '\(disk)'").ending == .status(0))
      let kept = try Program.runOnHost(
        "/sbin/debugfs -R 'cat /kept' '\(disk)' 2>/dev/null | sha256sum")
      #expect(
        try kept.output
          == Program.runOnHost("sha256sum < '\(Program.file("busybox", of: "disks"))'").output)
    }
  }
}
