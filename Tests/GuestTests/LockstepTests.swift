import Testing

extension GuestTests {
  /// Whole guests on two engines that are compared.
  @Suite struct LockstepTests {
    /// From the first instruction to the last, with a shell that works in between.
    @Test(arguments: Program.engines.filter { $0 != "interpret" })
    func defaultGuestRunsAlikeOnTheInterpreterAnd(engine: String) throws {
      let console = try GuestConsole(
        run: [
          "--lockstep", "interpret,\(engine)", "--stats", "--memory", "256M", "--append", "console=ttyS0 quiet",
          "--no-reboot",
        ])
      try console.waitForShell()
      #expect(try console.run("seq 1 1000 | awk '{ s += $1 * 0.5 } END { print s }'") == ("250250", 0))
      let sum = "dd if=/dev/zero bs=1M count=1 2>/dev/null | sha256sum"
      let host = try Program.runOnHost(sum)
      #expect(try console.run(sum).output + "\n" == host.output)
      try console.type("poweroff -f\n")
      #expect(try console.waitForEnd() == .status(0), "\(console.transcript.suffix(500)) \(console.errors)")
      #expect(console.errors.contains("lockstep: "), "\(console.errors)")
    }
  }
}
