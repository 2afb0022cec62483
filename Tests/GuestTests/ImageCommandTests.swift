import Testing

extension GuestTests {
  /// `ringside image`, as a person uses it, and beside qemu-img.
  @Suite struct ImageCommandTests {
    let directory: TemporaryDirectory

    init() throws { directory = try TemporaryDirectory() }

    @discardableResult
    private func image(_ arguments: [String], status: Int32 = 0) throws -> ProgramRun {
      let run = try Program.run(["image"] + arguments)
      #expect(run.ending == .status(status), "\(run)")
      return run
    }

    @discardableResult
    private func host(_ command: String, status: Int32 = 0) throws -> String {
      let run = try Program.runOnHost(command)
      #expect(run.ending == .status(status), "\(run)")
      return run.output
    }

    /// A way of life: an image, an overlay, snapshots, all that there is, and the same disk at the end of it.
    @Test func imagesGoThroughTheirLives() throws {
      let (raw, base, top) = (directory.file("raw"), directory.file("base.qcow2"), directory.file("top.qcow2"))
      let back = directory.file("back")
      try host("head -c 3M /dev/urandom > '\(raw)' && truncate -s 8M '\(raw)'")
      try image(["convert", "--from", "raw", "--compress", raw, base])
      try host("qemu-img check '\(base)' && qemu-img compare '\(base)' '\(raw)'")
      try image(["create", "--backing", "base.qcow2", top])
      try host("qemu-io -c 'write -P 9 1M 100k' '\(top)' && qemu-io -f raw -c 'write -P 9 1M 100k' '\(raw)'")
      try image(["snapshot", "create", top, "before"])
      try host("qemu-io -c 'write -P 8 0 4M' '\(top)'")
      #expect(try image(["snapshot", "list", top]).output.contains("before"))
      #expect(try host("qemu-img snapshot -l '\(top)'").contains("before"))
      try image(["snapshot", "apply", top, "before"])
      try host("qemu-img compare '\(top)' '\(raw)'")
      try image(["snapshot", "delete", top, "before"])
      try image(["resize", top, "12M"])
      try host("truncate -s 12M '\(raw)'")
      try image(["resize", top, "11M"], status: 1)
      try image(["commit", top])
      try host("qemu-img compare '\(base)' '\(raw)' && qemu-img check '\(base)' && qemu-img check '\(top)'")
      try image(["rebase", "--none", top])
      try image(["convert", "--to", "raw", top, back])
      try host("cmp '\(raw)' '\(back)' && qemu-img check '\(top)'")
      let info = try image(["info", "--json", top]).output
      for part in ["\"virtual-size\": 12582912", "\"format\": \"qcow2\"", "\"cluster-size\": 65536"] {
        #expect(info.contains(part) || info.contains(part.split(separator: " ").joined()), "\(part): \(info)")
      }
      // What is there is not replaced by accident, and what is in use is not changed.
      try image(["convert", raw, top], status: 1)
      try image(["create", top, "1M"], status: 1)
    }

    /// Exit statuses of a check are qemu-img's: 0, 2 for corrupt images, 3 for leaks.
    @Test func checksEndLikeQEMUs() throws {
      let (sound, leaking, corrupt) = (directory.file("sound"), directory.file("leaking"), directory.file("corrupt"))
      try host("qemu-img create -q -f qcow2 '\(sound)' 4M && qemu-io -c 'write 0 1M' '\(sound)'")
      // A refcount of a cluster that nobody uses; and one of a cluster that is in use.
      let block = "$((0x20000))"
      try host("cp '\(sound)' '\(leaking)' && truncate -s 4M '\(leaking)'")
      try host("printf '\\0\\1' | dd of='\(leaking)' bs=1 seek=$((\(block) + 2 * 40)) conv=notrunc 2>/dev/null")
      try host("cp '\(sound)' '\(corrupt)'")
      try host("printf '\\0\\0' | dd of='\(corrupt)' bs=1 seek=$((\(block) + 2 * 6)) conv=notrunc 2>/dev/null")
      for (file, status) in [(sound, 0), (leaking, 3), (corrupt, 2)] as [(String, Int32)] {
        try host("qemu-img check '\(file)'", status: status)
        try image(["check", file], status: status)
        #expect(try image(["check", "--json", file], status: status).output.contains("\"leaks\""))
      }
      #expect(try image(["check", "--repair", "leaks", corrupt], status: 2).output.contains("Nothing was repaired"))
      for file in [leaking, corrupt] {
        try image(["check", "--repair", "all", file])
        try host("qemu-img check '\(file)'")
      }
      // What is no image to check, and what is none at all.
      let raw = try directory.file("raw", containing: [UInt8](repeating: 0, count: 4096))
      #expect(try image(["check", raw], status: 1).errors.contains("no qcow2 image"))
      #expect(try image(["check", directory.file("missing")], status: 1).errors.contains("No such file"))
    }

    /// Command lines that make no sense.
    @Test func nonsenseIsRefused() throws {
      let file = directory.file("image")
      for arguments in [
        ["create", file], ["create", file, "ten"], ["create", "--cluster-size", "1000", file, "1M"],
        ["create", "--refcount-bits", "3", file, "1M"], ["create", "--format", "qcow", file, "1M"],
        ["create", "--format", "vmdk", file, "1M"], ["create", "--format", "raw", "--backing", "x", file],
        ["create", "--format-version", "2", "--compression", "zstd", file, "1M"], ["convert", file],
        ["convert", "--to", "raw", "--compress", file, file], ["rebase", file],
        ["rebase", "--none", "--backing", "x", file],
        ["resize", file], ["resize", file, "+"], ["check", "--repair", "some", file], ["snapshot", "create", file],
        ["unknown"],
      ] {
        let run = try image(arguments, status: 64)
        #expect(run.output == "" && !run.errors.isEmpty, "\(run)")
      }
      #expect(try host("ls '\(directory.path)'") == "")
    }

    /// The host's limit of a file's size, in the place of a full disk: an error, and an image that holds together.
    @Test func fullHostDisks() throws {
      let (raw, target) = (directory.file("raw"), directory.file("target"))
      try host("head -c 8M /dev/urandom > '\(raw)'")
      let run = try Program.runOnHost(
        "trap '' XFSZ; ulimit -f 4096; '\(Program.path)' image convert --from raw '\(raw)' '\(target)'")
      #expect(run.ending == .status(1) && run.errors.contains("could not"), "\(run)")
      try host("qemu-img check '\(target)'; test $? = 0 -o $? = 3")
    }
  }
}
