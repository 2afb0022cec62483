import Glibc
import Testing

extension GuestTests {
  /// Debian 12 as it is installed: GRUB, its kernel with an initial RAM disk, systemd and logins, on a disk that
  /// Scripts/make-disk makes.
  @Suite(.enabled(if: access(Program.file("disk.img", of: "debian"), R_OK) == 0, "only root can make the disk"))
  struct DebianTests {
    /// From each of the disk interfaces, by either firmware, to a login and down again.
    @Test(arguments: ["ide", "ahci", "virtio", "nvme"]) func bootsFromDisk(interface: String) throws {
      // Both at once: one alone would leave a core idle.
      let machines = try ["bios", "uefi"].map { try start(engine: "translate", interface: interface, firmware: $0) }
      for machine in machines { try use(machine) }
    }

    @Test func bootsInterpreted() throws {
      let machines = try [("virtio", "bios"), ("ahci", "uefi")].map {
        try start(engine: "interpret", interface: $0.0, firmware: $0.1)
      }
      for machine in machines { try use(machine) }
    }

    private func start(engine: String, interface: String, firmware: String) throws -> GuestConsole {
      let disk = Program.file("disk.img", of: "debian")
      return try GuestConsole(run: [
        "--engine", engine, "--memory", "512M", "--no-reboot", "--firmware", firmware, "--disk",
        "\(disk),if=\(interface),format=raw,snapshot=on",
      ])
    }

    /// Logs in, looks round, and switches off.
    private func use(_ console: GuestConsole) throws {
      try console.wait(for: "login: ", within: .seconds(600))
      try console.type("root\n")
      try console.wait(for: "Password: ")
      try console.type("ringside\n")
      try console.wait(for: "# ")
      let version = try console.run("apt-get --version | head -n 1")
      #expect(version.output.hasPrefix("apt 2.6."), "\(version)")
      let state = try console.run("systemctl is-system-running --wait", within: .seconds(600))
      #expect(state == ("running", 0))
      try console.type("poweroff\n")
      #expect(
        try console.waitForEnd(within: .seconds(300)) == .status(0),
        "\(console.transcript.suffix(500)) \(console.errors)")
    }
  }
}
