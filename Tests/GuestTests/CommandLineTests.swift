import Testing

extension GuestTests {
  /// Command lines that the program answers at once, or must refuse.
  @Suite struct CommandLineTests {
    private let directory: TemporaryDirectory

    init() throws { directory = try TemporaryDirectory() }

    @Test(arguments: [["version"], ["--version"]]) func versionIsTold(arguments: [String]) throws {
      let run = try Program.run(arguments)
      #expect(run.ending == .status(0) && run.output.hasPrefix("ringside ") && run.errors.isEmpty, "\(run)")
    }

    @Test func helpNamesEveryOption() throws {
      let run = try Program.run(["run", "--help"])
      #expect(run.ending == .status(0), "\(run)")
      for option in [
        "--engine", "--kernel", "--initrd", "--append", "--memory", "--serial", "--no-reboot", "--debug-exit",
        "--stats", "--log", "--code-cache", "--perf-map", "--dump-code", "Ctrl-a x",
      ] {
        #expect(run.output.contains(option), "\(option)")
      }
    }

    @Test func doctorGivesAVerdictForEachEngine() throws {
      let run = try Program.run(["doctor"])
      #expect(run.ending == .status(0), "\(run)")
      for word in ["Processor", "Memory", "/dev/kvm", "interpret", "translate"] {
        #expect(run.output.contains(word), "\(run)")
      }
    }

    @Test(
      arguments: [
        (["--memory", "0"], "--memory: 0 is too little"), (["--memory", "1K"], "--memory: 1K is too little"),
        (["--memory", "99999G"], "99999G is more than this computer has"), (["--memory", "lots"], "'lots'"),
        (["--memory", "1048577"], "multiple of 4096"),
        (["--memory", "99999999999999999999G"], "'99999999999999999999G'"), (["--memory", ""], "--memory"),
        (["--memory", "-5"], "--memory"), (["--memory", "512Q"], "'512Q'"), (["--cpus", "0"], "--cpus"),
        (["--cpus", "1000000"], "--cpus"), (["--engine", "magic"], "'magic'"),
        (["--lockstep", "interpret,magic"], "'interpret,magic'"),
        (["--lockstep", "interpret,interpret", "--cpus", "2"], "--cpus 1"),
        (["--lockstep-window", "3"], "without --lockstep"), (["--serial", "tty"], "'file:PATH'"),
        (["--code-cache", "1023K"], "--code-cache: 1047552 bytes is too little: give at least 1M"),
        (["--code-cache", "2G"], "--code-cache: 2G is too much: give at most 1G"), (["--code-cache", "big"], "'big'"),
        (["--code-cache", "2M", "--engine", "interpret"], "--code-cache: nothing is translated"),
        (["--perf-map", "--engine", "interpret"], "--perf-map: nothing is translated"),
        (["--dump-code", "1000", "--engine", "interpret"], "--dump-code: nothing is translated"),
        (["--dump-code", "main"], "'main'"),
        (["--debug-exit", "0xffff"], "0xfffc at most"),
        (["--debug-exit", "x"], "'x'"), (["--log", "loud"], "warning"), (["--frobnicate"], "--frobnicate"),
        (["kernel"], "'kernel'"), (["--kernel"], "Missing value"),
      ])
    func badCommandLineIsAUsageError(arguments: [String], message: String) throws {
      let run = try Program.run(["run"] + arguments)
      #expect(run.ending == .status(64), "\(run)")
      #expect(run.errors.contains(message) && run.output.isEmpty, "\(run)")
    }

    @Test func debugExitOnATakenPortIsAUsageError() throws {
      let kernel = try directory.file("kernel", containing: GuestImage.elf(GuestAssembler { $0.waitForever() }))
      let run = try Program.run(["run", "--kernel", kernel, "--debug-exit", "0x3f8"])
      #expect(run.ending == .status(64), "\(run)")
      #expect(run.errors.contains("port 0x3f8 is claimed by both"), "\(run)")
    }

    @Test func missingDefaultGuestSaysHowToGetIt() throws {
      let copy = directory.file("ringside")
      let run = try Program.runOnHost("cp '\(Program.path)' '\(copy)' && cd '\(directory.path)' && exec ./ringside run")
      #expect(run.ending == .status(1) && run.errors.contains("make guest"), "\(run)")
    }

    @Test(arguments: [["version"], ["run", "--help"], ["doctor"]]) func fullOutputIsAFailure(arguments: [String]) throws
    {
      let run = try Program.run(arguments, wiring: Wiring(input: .null, output: .file("/dev/full")))
      #expect(run.ending == .status(1), "\(run)")
      #expect(run.errors.contains("could not write to standard output: No space left on device"), "\(run)")
    }
  }
}
