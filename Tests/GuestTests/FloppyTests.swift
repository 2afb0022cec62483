import Glibc
import Testing

extension GuestTests {
  /// Floppy disks, as a BIOS boots them and as Linux drives them.
  @Suite struct FloppyTests {
    private let folder: TemporaryDirectory

    init() throws { folder = try TemporaryDirectory() }

    /// The first sector loads the disk's last one by the BIOS, and prints what it says.
    @Test(arguments: [(360, 39, 9), (720, 79, 9), (1200, 79, 15), (1440, 79, 18), (2880, 79, 36)])
    func biosBootsAFloppy(kilobytes: Int, cylinder: UInt8, sector: UInt8) throws {
      let code: [UInt8] = [
        0x31, 0xc0, 0x8e, 0xd8, 0x8e, 0xc0,
        // AX = 0201h: read one sector to 0:7e00h, from this cylinder and sector of side 1.
        0xb8, 0x01, 0x02, 0xbb, 0x00, 0x7e, 0xb9, sector, cylinder, 0xb6, 0x01, 0xcd, 0x13, 0x72, 0x0d,
        // Print it.
        0xbe, 0x00, 0x7e, 0xac, 0x84, 0xc0, 0x74, 0x06, 0xb4, 0x0e, 0xcd, 0x10, 0xeb, 0xf5, 0xf4, 0xeb, 0xfd,
      ]
      var image = code + [UInt8](repeating: 0, count: kilobytes << 10 - code.count)
      image.replaceSubrange(510..<512, with: [0x55, 0xaa])
      let text = Array("The disk's last sector.\r\n\0".utf8)
      image.replaceSubrange(image.count - 512..<image.count - 512 + text.count, with: text)
      let floppy = try folder.file("floppy", containing: image)
      let console = try GuestConsole(run: ["--floppy", "\(floppy),format=raw"])
      try console.wait(for: "Booting from Floppy")
      try console.wait(for: "The disk's last sector.")
      console.process.signalChild(SIGTERM)
      _ = try console.waitForEnd()
    }

    @Test(arguments: Program.engines) func linuxReadsAndWrites(engine: String) throws {
      let (first, second) = (folder.file("first"), folder.file("second"))
      let made = try Program.runOnHost(
        "head -c 1474560 /dev/urandom > '\(first)' && head -c 737280 /dev/urandom > '\(second)'")
      #expect(made.ending == .status(0))
      let console = try GuestConsole(run: [
        "--engine", engine, "--memory", "256M", "--kernel", Program.file("vmlinuz", of: "devices"), "--initrd",
        Program.file("initrd.gz", of: "devices"), "--append", "console=ttyS0 quiet", "--floppy",
        "\(first),format=raw", "--floppy", "\(second),format=raw",
      ])
      try console.waitForShell()
      #expect(try console.run("insmod /modules/floppy.ko; dmesg | grep -o 'FDC 0 is a .*'").output.contains("82077"))
      for (device, file) in [("fd0", first), ("fd1", second)] {
        let host = try Program.runOnHost("sha256sum < '\(file)'").output.dropLast()
        #expect(try console.run("sha256sum < /dev/\(device)").output == String(host))
      }
      #expect(
        try console.run("head -c 102400 /dev/zero | dd of=/dev/fd0 bs=512 seek=100 conv=fsync 2>/dev/null").status == 0)
      try console.type("poweroff -f\n")
      #expect(try console.waitForEnd() == .status(0), "\(console.errors)")
      let zeros = "tail -c +51201 '\(first)' | head -c 102400 | tr -d '\\000' | wc -c; wc -c < '\(first)'"
      #expect(try Program.runOnHost(zeros).output == "0\n1474560\n")
    }

    @Test func badFloppies() throws {
      let odd = try folder.file("odd", containing: [UInt8](repeating: 0, count: 512_000))
      let run = try Program.run(["run", "--floppy", "\(odd),format=raw"])
      #expect(
        run.ending == .status(1) && run.errors.contains("has 512000 bytes, but floppy disks have 160, 180"), "\(run)")
      #expect(try Program.run(["run", "--floppy", "a", "--floppy", "b", "--floppy", "c"]).ending == .status(64))
      #expect(try Program.run(["run", "--floppy", "a,if=ide"]).ending == .status(64))
    }
  }
}
