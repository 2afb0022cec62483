import Testing

extension GuestTests {
  /// Discs and installers as their authors publish them, each to its first screen.
  @Suite struct MediaTests {
    struct Disc: Sendable, CustomTestStringConvertible {
      let file: String
      let guest: String
      let interface: String
      /// What must stand on the display.
      let text: [String]

      var testDescription: String { "\(file) on \(interface)" }
    }

    static let discs = [
      Disc(
        file: "grub-rescue-cdrom.iso", guest: "discs", interface: "ide",
        text: ["GNU GRUB  version 2.", "*GNU/Linux", "Press enter to boot the selected OS"]),
      Disc(
        file: "grub-rescue-cdrom.iso", guest: "discs", interface: "ahci",
        text: ["GNU GRUB  version 2.", "*GNU/Linux", "Press enter to boot the selected OS"]),
      Disc(
        file: "ipxe.iso", guest: "discs", interface: "ide",
        text: ["iPXE ISO boot image", "Open Source Network Boot Firmware", "No more network devices"]),
      Disc(
        file: "memtest86+x64.iso", guest: "memtest", interface: "ide",
        text: ["Memtest86+ v", "Ringside Virtual CPU", "Memory  :   32MB", "Errors: 0"]),
    ]

    /// A disc starts by the BIOS, without another option, and what it shows is in the display's text memory.
    @Test(arguments: Program.engines, discs) func discStarts(engine: String, disc: Disc) throws {
      let folder = try TemporaryDirectory()
      let screen = folder.file("screen")
      let console = try GuestConsole(run: [
        "--engine", engine, "--memory", "32M", "--screen", screen, "--disk",
        "\(Program.file(disc.file, of: disc.guest)),media=cdrom,if=\(disc.interface)",
      ])
      try console.waitForScreen(screen, showing: disc.text)
      console.process.kill()
    }

    /// Debian's text installer asks for the language.
    @Test(arguments: ["amd64", "i386"]) func installerAsks(architecture: String) throws {
      let guest = "installer-\(architecture)"
      let console = try GuestConsole(run: [
        "--engine", "translate", "--memory", "768M", "--kernel", Program.file("linux", of: guest), "--initrd",
        Program.file("initrd.gz", of: guest), "--append", "console=ttyS0 TERM=linux",
      ])
      // The question's own words are in pieces between what moves the cursor.
      try console.wait(for: "English", within: GuestConsole.bootLimit)
      // The second question comes after the answer to the first.
      try console.type("\r")
      try console.wait(for: "Select your location", within: GuestConsole.bootLimit)
      console.process.kill()
    }
  }
}
