import ArgumentParser
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

  /// `--serial` can be given twice: on restoring, the first replaces the first.
  @Test func serialPortsAreReplacedInTheirOrder() {
    func replace(_ old: [String], _ new: [String]) -> [[String]] {
      let result = RecordedArguments.replace("--serial", in: old, by: new)
      return [result.arguments, result.options]
    }
    #expect(
      replace(["--serial", "a", "--stats", "--serial=b"], ["--engine", "x", "--serial", "c"]) == [
        ["--serial", "c", "--stats", "--serial=b"], ["--engine", "x"],
      ])
    #expect(
      replace(["--serial=a", "--serial", "b"], ["--serial", "c", "--serial=d"]) == [
        ["--serial", "c", "--serial=d"], [],
      ])
    #expect(replace(["--stats"], ["--serial", "c"]) == [["--stats"], ["--serial", "c"]])
    #expect(replace(["--serial", "a"], ["--serial"]) == [["--serial"], []])
  }

  @Test func clonesLeaveSomeOptionsOut() {
    #expect(
      RecordedArguments.remove(["--control", "--uefi-vars"], from: ["--control", "s", "--stats", "--uefi-vars=f"])
        == ["--stats"])
  }

  /// A machine has its disks by their controllers, whatever the order on the command line.
  @Test func snapshotsOfDisks() throws {
    let disks = try ["a,if=nvme", "b,if=ide", "c,if=virtio", "d"].map { try DiskArgument(parsing: $0) }
    let floppies = try ["e", "f,snapshot=on"].map { try DiskArgument(parsingFloppy: $0) }
    #expect(floppies[1].isTemporary && floppies[1].path == "f")
    #expect(
      DiskArgument.snapshotNames(
        of: disks, floppies: floppies, on: .pc, in: ["ide1", "", "virtio", "nvme", "e", ""]) == [
          "nvme", "ide1", "virtio", nil, "e", nil,
        ])
    #expect(DiskArgument.snapshotNames(of: disks, floppies: [], on: .pc, in: []) == [nil, nil, nil, nil])
    for bad in ["", "a,if=ide", "a,serial=x", "a,readonly"] {
      #expect(throws: ValidationError.self, "\(bad)") { try DiskArgument(parsingFloppy: bad) }
    }
  }

  @Test func requestsSurviveTheWire() {
    let size = MemorySize(bytes: 3 << 20)
    for request in [ControlRequest.saveSnapshot(path: "/a b/c"), .setBalloon(size), .pause, .resume] {
      #expect(ControlRequest(line: request.line) == request)
    }
    for line in ["", "snapshot-save", "halt x", "balloon", "balloon much", "pause x", " snapshot-save x"]
    where line != " snapshot-save x" {
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
