import Glibc
import Testing

extension GuestTests {
  /// What people give by mistake: each gets a message that names it, the right exit status, and an end.
  @Suite struct BadInputTests {
    let directory: TemporaryDirectory

    init() throws { directory = try TemporaryDirectory() }

    /// Runs the program and looks at its status and message. Nothing may come on standard output.
    private func expect(
      _ options: [String], status: Int32, saying words: [String],
      sourceLocation: SourceLocation = #_sourceLocation
    ) throws {
      let run = try Program.run(options)
      #expect(run.ending == .status(status), "\(run)", sourceLocation: sourceLocation)
      #expect(run.output == "", sourceLocation: sourceLocation)
      for word in words {
        #expect(run.errors.contains(word), "'\(word)' is missing: \(run)", sourceLocation: sourceLocation)
      }
    }

    // MARK: Files

    enum File: String, CaseIterable, Sendable {
      case missing, empty, folder, random, text, endless

      /// What the message says of it.
      var words: String {
        switch self {
        case .missing: "No such file or directory"
        case .empty: "empty"
        case .folder: "directory"
        case .random, .text: "is not"
        case .endless: "does not end"
        }
      }
    }

    private func path(_ file: File) throws -> String {
      switch file {
      case .missing: directory.file("missing")
      case .empty: try directory.file("empty", containing: [])
      case .folder: directory.path
      case .random: try directory.file("random", containing: Self.randomBytes(1 << 20))
      case .text: try directory.file("text", containing: Array("#!/bin/sh\necho This is no kernel.\n".utf8))
      case .endless: "/dev/zero"
      }
    }

    /// The same bytes in each run; they begin like no file format.
    private static func randomBytes(_ count: Int) -> [UInt8] {
      var state: UInt64 = 20_261_122
      return (0..<count).map { _ in
        state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        return UInt8(truncatingIfNeeded: state >> 56)
      }
    }

    @Test(arguments: File.allCases) func kernelThatIsNone(file: File) throws {
      let path = try path(file)
      try expect(["run", "--kernel", path], status: 1, saying: [path, file.words])
    }

    @Test(arguments: File.allCases) func initialRAMDiskThatIsNone(file: File) throws {
      let path = try path(file)
      try expect(["run", "--initrd", path], status: 1, saying: [path, file.words])
    }

    @Test(arguments: [1, 100, 600, 0x2000, 1_000_000]) func truncatedLinux(count: Int) throws {
      let bytes = try contents(ofFile: Program.kernel).prefix(count)
      let path = try directory.file("truncated", containing: Array(bytes))
      try expect(["run", "--kernel", path], status: 1, saying: [path, count < 600 ? "is not a kernel" : "truncated"])
    }

    /// Whatever part of an ELF kernel is missing, it is noticed.
    @Test func truncatedELF() throws {
      let whole = GuestImage.elf(GuestAssembler { $0.exit(0) })
      for count in Swift.stride(from: 4, to: whole.count, by: 97) {
        let path = try directory.file("truncated.elf", containing: Array(whole.prefix(count)))
        try expect(["run", "--kernel", path], status: 1, saying: [path])
      }
    }

    @Test func programForThisHost() throws {
      try expect(["run", "--kernel", "/bin/sh"], status: 1, saying: ["/bin/sh", "PVH"])
    }

    /// A kernel whose compressed part is damaged starts, and is then on its own: it must not take us along.
    @Test(arguments: Program.engines) func damagedLinux(engine: String) throws {
      var bytes = try contents(ofFile: Program.kernel)
      let middle = bytes.count / 2
      bytes.replaceSubrange(middle..<middle + 4096, with: Self.randomBytes(4096))
      let path = try directory.file("damaged", containing: bytes)
      let console = try GuestConsole(
        run: ["--engine", engine, "--kernel", path, "--append", "console=ttyS0 earlyprintk=ttyS0", "--no-reboot"],
        wiring: .batch)
      try console.wait(for: "-- System halted", within: GuestConsole.bootLimit)
      console.process.signalChild(SIGTERM)
      #expect(try console.waitForEnd() == .signal(SIGTERM))
    }

    @Test func initialRAMDiskThatDoesNotFit() throws {
      let path = try directory.file("large", containing: contents(ofFile: Program.initialRAMDisk))
      #expect(truncate(path, 600 << 20) == 0)
      try expect(["run", "--initrd", path, "--memory", "256M"], status: 1, saying: [path, "600 MiB", "more memory"])
    }

    // MARK: What does not fit

    @Test func memoryThatIsTooLittleForTheKernel() throws {
      try expect(["run", "--memory", "16M"], status: 1, saying: ["vmlinuz", "16 MiB", "more memory"])
    }

    @Test func kernelCommandLineThatIsTooLong() throws {
      let text = String(repeating: "x", count: 5000)
      try expect(["run", "--append", text], status: 1, saying: ["vmlinuz", "command line", "5000"])
    }

    // MARK: Standard streams

    /// Nobody can be told, but the status still says that it did not work.
    @Test(
      arguments: [.closed, .file("/dev/full")] as [Wiring.Output],
      [(["--memory", "0"], 64), (["--frobnicate"], 64), (["--kernel", "/"], 1)] as [([String], Int32)])
    func errorsThatCannotBeReported(errors: Wiring.Output, expected: ([String], Int32)) throws {
      let run = try Program.run(["run"] + expected.0, wiring: Wiring(input: .null, errors: errors))
      #expect(run.ending == .status(expected.1), "\(run)")
    }

    // MARK: Files that keep one waiting

    /// A FIFO that nobody opens at its other end; the program can be ended all the same.
    @Test(arguments: [SIGINT, SIGTERM], [["--kernel"], ["--initrd"], ["--serial"]])
    func fifoWithoutAnotherEnd(signal: Int32, option: [String]) throws {
      let path = directory.file("fifo")
      #expect(mkfifo(path, 0o600) == 0)
      let value = option == ["--serial"] ? "file:" + path : path
      let process = try ChildProcess([Program.path, "run"] + option + [value], wiring: .batch)
      #expect(process.waitForEnd(within: .milliseconds(300)) == nil)
      process.signalChild(signal)
      #expect(process.waitForEnd(within: .seconds(10)) == .signal(signal))
    }
  }
}
