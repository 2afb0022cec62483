import Glibc
import Testing

extension GuestTests {
  /// What is told of translated code, and what bounds it.
  @Suite struct TranslationOptionTests {
    private let directory: TemporaryDirectory

    init() throws { directory = try TemporaryDirectory() }

    /// A guest that adds for a while, and ends with status 1.
    private func run(_ options: [String]) throws -> ProgramRun {
      let guest = GuestAssembler { guest in
        guest.loop(.ecx, from: 1, through: 1_000_000) { $0.add(.edx, 3) }
        guest.exit(0)
      }
      let kernel = try directory.file("guest.elf", containing: GuestImage.elf(guest))
      return try Program.run(
        ["run", "--memory", "16M", "--kernel", kernel, "--no-reboot", "--debug-exit", "0xf4"] + options)
    }

    @Test(arguments: ["1M", "64M", "1G"]) func statisticsTellOfTranslations(size: String) throws {
      let run = try run(["--engine", "translate", "--code-cache", size, "--stats"])
      #expect(run.ending == .status(1), "\(run)")
      let line = try #require(run.errors.split(separator: "\n").first { $0.hasPrefix("translated ") })
      #expect(!line.hasPrefix("translated 0 ") && line.contains("(0.00%) ran interpreted"), "\(run)")
    }

    @Test func statisticsOfTheInterpreterSayNothingOfTranslations() throws {
      let run = try run(["--engine", "interpret", "--stats"])
      #expect(run.ending == .status(1) && run.errors.contains("guest time"), "\(run)")
      #expect(!run.errors.contains("translated"), "\(run)")
    }

    @Test func otherCodeIsNotPrinted() throws {
      let run = try run(["--engine", "translate", "--dump-code", "0xffffffff81000000"])
      #expect(run.ending == .status(1) && run.errors == "", "\(run)")
    }

    @Test func translationsHaveNamesForPerf() throws {
      let program = try Program.runOnHost("ls /tmp/perf-*.map 2>/dev/null; true")
      let before = Set(program.output.split(separator: "\n"))
      let run = try run(["--engine", "translate", "--perf-map"])
      #expect(run.ending == .status(1), "\(run)")
      let after = try Program.runOnHost("ls /tmp/perf-*.map").output.split(separator: "\n")
      let paths = after.filter { !before.contains($0) }.map(String.init)
      defer { for path in paths { unlink(path) } }
      let lines = try paths.flatMap { path in
        String(decoding: try contents(ofFile: path), as: UTF8.self).split(separator: "\n")
      }
      for name in ["ringside:leave", "ringside:enter-supervisor", "guest-kernel:"] {
        #expect(lines.contains { $0.contains(" \(name)") }, "\(name)")
      }
      for line in lines {
        let fields = line.split(separator: " ")
        #expect(
          fields.count == 3 && UInt64(fields[0], radix: 16) != nil && UInt64(fields[1], radix: 16) != nil, "\(line)")
      }
    }
  }
}
