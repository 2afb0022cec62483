import Glibc
import Testing

extension GuestTests {
  /// Firmware from Debian's packages, as a user starts it: what it shows on the display and says on the serial line.
  @Suite struct FirmwareTests {
    /// Without anything to boot, SeaBIOS says so, on its display and on the serial line.
    @Test(arguments: Program.engines) func biosFindsNothingToBoot(engine: String) throws {
      let folder = try TemporaryDirectory()
      let screen = folder.file("screen")
      let console = try GuestConsole(run: ["--engine", engine, "--firmware", "bios", "--screen", screen])
      try console.wait(for: "SeaBIOS (version ")
      try console.wait(for: "No bootable device.")
      console.process.signalChild(SIGTERM)
      _ = try console.waitForEnd()
      let lines = String(decoding: try contents(ofFile: screen), as: UTF8.self).split(
        separator: "\n", omittingEmptySubsequences: false)
      #expect(lines.count == 26 && lines.first?.hasPrefix("SeaBIOS (version ") == true, "\(lines)")
      #expect(lines.contains { $0.hasPrefix("No bootable device.") }, "\(lines)")
    }

    /// Keys reach the BIOS: Ctrl-Alt-Delete starts the machine again.
    @Test func biosStartsAgain() throws {
      let folder = try TemporaryDirectory()
      let console = try GuestConsole(run: [
        "--firmware", "bios", "--screen", folder.file("screen"), "--keys",
        "<wait No bootable device><ctrl-alt-delete>",
      ])
      for _ in 0..<2 {
        try console.wait(for: "SeaBIOS (version ")
        try console.wait(for: "No bootable device.")
      }
      console.process.signalChild(SIGTERM)
      _ = try console.waitForEnd()
    }

    /// A disk without a kernel starts with SeaBIOS, which loads its first sector; what that says with BIOS calls is on the
    /// serial line.
    @Test(arguments: ["ide", "ahci"]) func biosBootsADisk(interface: String) throws {
      // Real mode at 0x7c00: prints the text behind it character by character, and halts.
      let code: [UInt8] = [
        0x31, 0xc0, 0x8e, 0xd8, 0xbe, 0x15, 0x7c, 0xac, 0x84, 0xc0, 0x74, 0x06, 0xb4, 0x0e, 0xcd, 0x10, 0xeb, 0xf5,
        0xf4, 0xeb, 0xfd,
      ]
      var sector = code + Array("The first sector runs.\r\n\0".utf8)
      sector += [UInt8](repeating: 0, count: 510 - sector.count) + [0x55, 0xaa]
      let folder = try TemporaryDirectory()
      let disk = try folder.file("disk", containing: sector + [UInt8](repeating: 0, count: 1 << 20))
      let console = try GuestConsole(run: ["--disk", "\(disk),format=raw,if=\(interface)"])
      try console.wait(for: "Booting from Hard Disk")
      try console.wait(for: "The first sector runs.")
      console.process.signalChild(SIGTERM)
      _ = try console.waitForEnd()
    }

    /// What starts as from a boot sector finds a display in text mode, though no BIOS has run.
    @Test(arguments: Program.engines) func displayWithoutFirmware(engine: String) throws {
      // Real mode: says "Hi" on the display, and behind it 'A' and the upper byte of the cursor's place; waits for a key.
      let code: [UInt8] = [
        0xb8, 0x00, 0xb8, 0x8e, 0xc0, 0x26, 0xc7, 0x06, 0x00, 0x00, 0x48, 0x07, 0x26, 0xc7, 0x06, 0x02,
        0x00, 0x69, 0x07, 0xba, 0xd4, 0x03, 0xb0, 0x0e, 0xee, 0x42, 0xec, 0x04, 0x41, 0x26, 0xa2, 0x04,
        0x00, 0xe4, 0x64, 0xa8, 0x01, 0x74, 0xfa, 0xb0, 0x03, 0xe6, 0xf4, 0xf4,
      ]
      let folder = try TemporaryDirectory()
      let run = try Program.run([
        "run", "--engine", engine, "--memory", "16M", "--flat", "0x7c00", "--debug-exit", "0xf4", "--keys",
        "<wait HiA>x", "--kernel", try folder.file("code", containing: code),
      ])
      #expect(run.ending == .status(7), "\(run)")
    }

    /// OVMF comes to its shell, which runs a command and keeps a variable in a file.
    @Test func uefiShell() throws {
      let folder = try TemporaryDirectory()
      let variables = folder.file("variables")
      for round in 0..<2 {
        let console = try GuestConsole(run: ["--firmware", "uefi", "--uefi-vars", variables])
        try console.wait(for: "UEFI v2.", within: GuestConsole.bootLimit)
        try console.wait(for: "to skip")
        try console.type("\u{1b}")
        try console.wait(for: "Shell> ")
        if round == 0 {
          try console.type("set Kept yes-it-is\r")
          try console.wait(for: "Shell> ")
          try console.type("reset -s\r")
          #expect(try console.waitForEnd() == .status(0))
        } else {
          try console.type("set Kept\r")
          try console.wait(for: "yes-it-is")
          console.process.signalChild(SIGTERM)
          _ = try console.waitForEnd()
        }
      }
    }
  }
}
