import Glibc
import Testing

extension GuestTests {
  /// Disks of all kinds under kernels that are told to use the interrupt controllers in older ways.
  @Suite struct InterruptRoutingTests {
    /// The 8259s, by ACPI's link devices and without; the I/O APIC's pins, by ACPI and by the MultiProcessor table.
    @Test(arguments: [
      "noapic pci=nomsi", "noapic nolapic pci=nomsi", "acpi=off noapic pci=nomsi", "pci=nomsi", "acpi=noirq pci=nomsi",
      "acpi=off pci=nomsi",
    ])
    func disksWork(parameters: String) throws {
      let folder = try TemporaryDirectory()
      let kinds = ["ide", "ahci", "virtio", "nvme"]
      let files = kinds.map { folder.file($0) }
      for file in files {
        #expect(try Program.runOnHost("head -c 4M /dev/urandom > '\(file)'").ending == .status(0))
      }
      let console = try GuestConsole(
        run: [
          "--memory", "256M", "--kernel", Program.file("vmlinuz", of: "disks"), "--initrd",
          Program.file("initrd.gz", of: "disks"), "--append", "console=ttyS0 quiet \(parameters)",
        ] + zip(files, kinds).flatMap { ["--disk", "\($0),format=raw,readonly=on,if=\($1)"] })
      try console.waitForShell()
      let sums = try files.map { try Program.runOnHost("md5sum < '\($0)'").output.prefix(32) }.sorted()
      let read = try console.run(
        "cat /dev/sda /dev/sdb /dev/vda /dev/nvme0n1 > /dev/null; md5sum /dev/sd? /dev/vda /dev/nvme0n1 | cut -c 1-32 | sort"
      )
      #expect(read.output == sums.joined(separator: "\n"), "\(read)")
      #expect(try console.run("dmesg | grep -iE 'nobody cared|lost interrupt|I/O error|timeout'") == ("", 1))
      // Without ACPI nothing can switch the machine off.
      if parameters.contains("acpi=off") {
        console.process.signalChild(SIGTERM)
        _ = try console.waitForEnd()
      } else {
        try console.type("poweroff -f\n")
        #expect(try console.waitForEnd() == .status(0), "\(console.errors)")
      }
    }
  }
}
