import ArgumentParser
import Firmware
import Processor
import Testing

@testable import ringside

@Suite struct OptionTests {
  @Test(
    arguments: [
      ("0", 0), ("4096", 4096), ("512M", 512 << 20), ("512m", 512 << 20), ("1K", 1024), ("2G", 2 << 30),
      ("1T", 1 << 40), ("64MiB", 64 << 20), ("64MB", 64 << 20), ("99999G", 99999 << 30), ("1b", 1),
    ] as [(String, UInt64)])
  func memorySizesAreUnderstood(text: String, bytes: UInt64) {
    #expect(MemorySize(text)?.bytes == bytes)
  }

  @Test(arguments: [
    "", "M", "1.5G", "-1M", "512X", "512 M", "99999999999999999999", "18446744073709551615K", "１M", "0x10M",
  ])
  func otherTextIsNoMemorySize(text: String) {
    #expect(MemorySize(text) == nil)
  }

  @Test func memorySizesAreSaidShortly() {
    #expect("\(MemorySize(bytes: 512 << 20))" == "512M")
    #expect("\(MemorySize(bytes: 3 << 29))" == "1.5G")
    #expect("\(MemorySize(bytes: 1024))" == "1024 bytes")
    #expect("\(MemorySize(bytes: .max))" == "16777215.9T")
  }

  @Test func problemsNameWhatWasGivenAndWhatWouldDo() throws {
    func problem(_ text: String) throws -> String? { try #require(MemorySize(text)).problem(available: 4 << 30) }
    #expect(try problem("4G") == nil)
    #expect(try problem("1M") == nil)
    #expect(try problem("1K")?.hasPrefix("1K is too little") == true)
    #expect(try problem("0")?.contains("at least 1M") == true)
    #expect(try problem("1048577")?.contains("multiple of 4096") == true)
    #expect(try problem("5G") == "5G is more than this computer has: give at most 4G, which are available")
  }

  @Test func serialTargets() {
    #expect(SerialTarget(argument: "stdio") == .stdio)
    #expect(SerialTarget(argument: "none") == SerialTarget.none)
    #expect(SerialTarget(argument: "file:a:b") == .file("a:b"))
    #expect(SerialTarget(argument: "unix:/tmp/x") == .unix("/tmp/x"))
    for text in ["", "file:", "unix:", "tcp:1", "Stdio"] { #expect(SerialTarget(argument: text) == nil) }
  }

  @Test func portNumbers() {
    #expect(PortNumber(argument: "0xf4")?.value == 0xf4)
    #expect(PortNumber(argument: "0XF4")?.value == 0xf4)
    #expect(PortNumber(argument: "244")?.value == 244)
    for text in ["", "0x", "65536", "-1", "f4", "+1x"] { #expect(PortNumber(argument: text) == nil) }
  }

  @Test func realModeAddresses() {
    #expect(RealModeAddress(argument: "0x7c00") == RealModeAddress(segment: 0, offset: 0x7c00))
    #expect(RealModeAddress(argument: "31744") == RealModeAddress(segment: 0, offset: 0x7c00))
    #expect(RealModeAddress(argument: "0x12345") == RealModeAddress(segment: 0x1000, offset: 0x2345))
    #expect(RealModeAddress(argument: "07c0:0000") == RealModeAddress(segment: 0x7c0, offset: 0))
    #expect(RealModeAddress(argument: "0xFFFF:0x10") == RealModeAddress(segment: 0xffff, offset: 0x10))
    for text in ["", ":", "0x", "1:2:3", "10000:0", "0x100000", "7c00h", "-1", "7c0:"] {
      #expect(RealModeAddress(argument: text) == nil)
    }
  }

  @Test func modules() throws {
    let module = try #require(ModuleArgument(argument: "a/file some text"))
    #expect(module.path == "a/file" && module.arguments == "some text")
    #expect(ModuleArgument(argument: "file")?.arguments == "")
    #expect(ModuleArgument(argument: " ") == nil)
  }

  @Test func guestsAreOneThing() throws {
    for line in [
      ["--firmware", "f", "--kernel", "k"], ["--firmware", "f", "--initrd", "i"], ["--firmware", "f", "--flat", "0"],
      ["--flat", "0x7c00"], ["--flat", "0x7c00", "--kernel", "k", "--module", "m"],
    ] {
      #expect(throws: (any Error).self, "\(line)") { try Ringside.parseAsRoot(["run"] + line) }
    }
    for line in [
      ["--firmware", "f", "--test-device"], ["--kernel", "k", "--flat", "7c0:0"],
      ["--kernel", "k", "--initrd", "a", "--initrd", "b", "--module", "c d"],
    ] {
      _ = try Ringside.parseAsRoot(["run"] + line)
    }
  }

  @Test func smallMachinesHaveLittle() throws {
    for line in [
      ["--firmware", "bios"], ["--screen", "s"], ["--keys", "k"], ["--test-device"], ["--disk", "d,if=ahci"],
    ] {
      #expect(throws: (any Error).self, "\(line)") { try Ringside.parseAsRoot(["run", "--machine", "micro"] + line) }
    }
    for line in [["--disk", "d"], ["--disk", "d,if=virtio"], ["--rng", "--balloon", "0"]] {
      _ = try Ringside.parseAsRoot(["run", "--machine", "micro"] + line)
    }
    #expect(throws: (any Error).self) { try Ringside.parseAsRoot(["run", "--machine", "macro"]) }
  }

  @Test func oneLineHasStandardOutput() throws {
    func command(_ line: String...) throws -> RunCommand? { try Ringside.parseAsRoot(["run"] + line) as? RunCommand }
    #expect(try command("--console", "stdio")?.serialTargets == [SerialTarget.none])
    #expect(try command("--console", "none")?.serialTargets == [.stdio])
    #expect(try command("--console", "unix:a", "--serial", "unix:b")?.serialTargets == [.unix("b")])
    #expect(throws: (any Error).self) { try command("--console", "stdio", "--serial", "stdio") }
    #expect(throws: (any Error).self) { try command("--console", "file:a", "--serial", "file:a") }
  }

  @Test func balloonsLeaveMemoryToTheGuest() throws {
    let memory = MemorySize(bytes: 64 << 20)
    for (size, isPossible) in [(0, true), (48 << 20, true), (49 << 20, false), (4097, false), (1 << 40, false)] {
      #expect((MemorySize(bytes: UInt64(size)).balloonProblem(memory: memory) == nil) == isPossible, "\(size)")
    }
    #expect(MemorySize(bytes: 1 << 20).balloonProblem(memory: MemorySize(bytes: 8 << 20)) != nil)
    #expect(MemorySize(bytes: 1 << 20).balloonPages == 256)
  }

  @Test func engines() {
    #expect(EngineSelection(argument: "auto")?.chosen == .best)
    for kind in EngineKind.allCases { #expect(EngineSelection(argument: kind.rawValue)?.chosen == kind) }
    #expect(EngineSelection(argument: "magic") == nil)
  }

  @Test func lockstep() throws {
    #expect(LockstepSelection(argument: "interpret,translate")?.second == .translate)
    for first in EngineKind.allCases {
      for second in EngineKind.allCases {
        let selection = LockstepSelection(argument: "\(first.rawValue),\(second.rawValue)")
        #expect(selection?.first == first && selection?.second == second)
      }
    }
    for text in ["", "interpret", "interpret,", ",translate", "interpret,magic", "interpret,translate,interpret"] {
      #expect(LockstepSelection(argument: text) == nil, "\(text)")
    }
    for line in [
      ["--lockstep-window", "4"], ["--lockstep", "interpret,interpret", "--cpus", "2"],
      ["--lockstep", "interpret,interpret", "--engine", "interpret"],
      ["--lockstep", "interpret,interpret", "--lockstep-window", "0"],
    ] {
      #expect(throws: (any Error).self, "\(line)") { try Ringside.parseAsRoot(["run"] + line) }
    }
    let line = ["run", "--lockstep", "interpret,translate", "--lockstep-window", "7"]
    let command = try #require(try Ringside.parseAsRoot(line) as? RunCommand)
    #expect(command.engineChoice == .lockstep(try #require(command.lockstep), window: 7))
    let plain = try #require(try Ringside.parseAsRoot(["run"]) as? RunCommand)
    #expect(plain.engineChoice == .single(.best))
  }

  @Test func codeCacheSizes() throws {
    for text in ["1M", "64M", "1G", "1024M", "1500K"] {
      let size = try #require(CodeCacheSize(argument: text))
      #expect(size.problem == nil, "\(text)")
    }
    #expect(CodeCacheSize(argument: "2M")?.bytes == 2 << 20)
    #expect(CodeCacheSize.standard.bytes == 64 << 20)
    #expect(CodeCacheSize(argument: "1023K")?.problem?.contains("at least 1M") == true)
    #expect(CodeCacheSize(argument: "0")?.problem?.contains("at least 1M") == true)
    #expect(CodeCacheSize(argument: "1025M")?.problem?.contains("at most 1G") == true)
    for text in ["", "M", "-1M", "much"] { #expect(CodeCacheSize(argument: text) == nil, "\(text)") }
  }

  @Test func linearAddresses() {
    #expect(LinearAddress(argument: "0xffffffff81000000")?.value == 0xffff_ffff_8100_0000)
    #expect(LinearAddress(argument: "0XABC")?.value == 0xabc)
    #expect(LinearAddress(argument: "10")?.value == 0x10)
    for text in ["", "0x", "+1", "-1", "0x+1", "main", "1_0", "1ffffffffffffffff"] {
      #expect(LinearAddress(argument: text) == nil, "\(text)")
    }
  }

  @Test func onlyATranslatorHasOptionsForTranslations() throws {
    let options = [["--code-cache", "2M"], ["--perf-map"], ["--dump-code", "1000"]]
    for option in options {
      for engine in [["--engine", "interpret"], ["--lockstep", "interpret,interpret"]] {
        #expect(throws: (any Error).self, "\(engine) \(option)") { try Ringside.parseAsRoot(["run"] + engine + option) }
      }
      for engine in [[], ["--engine", "auto"], ["--engine", "translate"], ["--lockstep", "interpret,translate"]] {
        _ = try Ringside.parseAsRoot(["run"] + engine + option)
      }
    }
  }

  @Test func translationsAreReported() {
    let statistics = TranslationStatistics(
      blockCount: 12, codeSize: 3 << 20, emptyingCount: 4, instructionCount: 99_950)
    #expect(
      TranslationReport(statistics: statistics, instructionCount: 100_000).text
        == "translated 12 blocks, at most 3M of code at a time, emptied 4 times; 50 instructions (0.05%) ran interpreted\n"
    )
    let leaves = TranslationStatistics(leaveCounts: ["iret": 7, "popf": 9])
    #expect(
      TranslationReport(statistics: leaves, instructionCount: 0).text
        .hasSuffix("translated code was left 16 times for an instruction: popf 9, iret 7\n"))
    #expect(
      TranslationReport(statistics: TranslationStatistics(), instructionCount: 0).text.contains(
        "0 instructions (0.00%)"))
  }

  @Test func commandLineIsTakenApart() throws {
    let command = try #require(
      try Ringside.parseAsRoot([
        "run", "--engine", "interpret", "--kernel", "k", "--initrd", "i", "--append", "a b", "--memory", "64M",
        "--serial", "file:x", "--no-reboot", "--debug-exit", "0xf4", "--stats", "--log", "debug",
      ]) as? RunCommand)
    #expect(
      command.kernel == "k" && command.initrd == ["i"] && command.append == "a b" && command.serial == [.file("x")])
    #expect(command.noReboot && command.stats && command.debugExit?.value == 0xf4 && command.log == .debug)
    #expect(command.memory.bytes == 64 << 20)
    let plain = try #require(try Ringside.parseAsRoot(["run"]) as? RunCommand)
    #expect(
      plain.append == "console=ttyS0" && plain.serialTargets == [.stdio] && !plain.noReboot && plain.log == .warning)
  }

  @Test func serialPortsAndFailures() throws {
    let command = try #require(
      try Ringside.parseAsRoot([
        "run", "--serial", "none", "--serial", "stdio", "--panic", "end", "--watchdog", "pause",
      ])
        as? RunCommand)
    #expect(command.serialTargets == [.none, .stdio] && command.panic == .end && command.watchdog == .pause)
    for bad in [
      ["--serial", "stdio", "--serial", "stdio"], ["--panic", "explode"], ["--watchdog", ""],
      ["--serial", "none", "--serial", "none", "--serial", "none"],
    ] {
      #expect(throws: (any Error).self, "\(bad)") { try Ringside.parseAsRoot(["run"] + bad) }
    }
  }

  @Test func defaultGuestIsLookedForNearby() {
    #expect(
      GuestFiles.folders(environment: nil, executable: "/a/b/.build/release/ringside") == [
        ".guests", "/a/b/.build/release/.guests", "/a/b/.build/.guests", "/a/b/.guests", "/a/.guests",
      ])
    #expect(GuestFiles.folders(environment: "/g", executable: nil) == ["/g", ".guests"])
    #expect(GuestFiles.folders(environment: "", executable: "/ringside") == [".guests"])
  }

  @Test func processors() throws {
    for text in ["max", "x86-64-v2,-aes,vendor=amd", "pentium,+cmov"] {
      #expect(throws: Never.self) { try ProcessorSelection(text) }
    }
    for text in ["", "z80", "max,+warp", "max,avx", "max,vendor=cyrix"] {
      #expect(throws: ValidationError.self) { try ProcessorSelection(text) }
    }
  }
}
