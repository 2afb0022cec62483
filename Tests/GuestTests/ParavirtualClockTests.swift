import Testing

extension GuestTests {
  /// Debian's kernel keeps time by KVM's clock.
  @Suite struct ParavirtualClockTests {
    @Test(arguments: Program.engines) func kernelKeepsTimeByIt(engine: String) throws {
      let console = try GuestConsole(
        run: ["--engine", engine, "--cpus", "2", "--append", "console=ttyS0 clocksource=kvm-clock"])
      try console.waitForShell()
      let source = "cat /sys/devices/system/clocksource/clocksource0/current_clocksource"
      #expect(try console.run(source) == ("kvm-clock", 0))
      // Both processors, each in its turn, and the time of day.
      for processor in ["1", "2"] {
        let start = ContinuousClock.now
        let before = try uptime(console, processor)
        #expect(try console.run("sleep 1").status == 0)
        let after = try uptime(console, processor)
        let host = ContinuousClock.now - start
        let guest = Duration.milliseconds(Int((after - before) * 1000))
        #expect(guest >= .milliseconds(980) && guest <= host + .milliseconds(20), "\(guest), and here \(host)")
      }
      let host = try #require(Int(Program.runOnHost("date +%s").output.split(separator: "\n")[0]))
      let guest = try #require(Int(console.run("date +%s").output))
      #expect(abs(guest - host) <= 2, "\(guest), and here it is \(host)")
      #expect(try console.run("dmesg | grep -c -i -e 'unstable' -e 'skew'").output == "0")
      try console.type("poweroff -f\n")
      #expect(try console.waitForEnd() == .status(0), "\(console.transcript.suffix(500)) \(console.errors)")
    }

    /// Seconds since the guest was started, as one of its processors has it.
    private func uptime(_ console: GuestConsole, _ processor: String) throws -> Double {
      let output = try console.run("taskset \(processor) cat /proc/uptime").output
      return try #require(Double(output.split(separator: " ")[0]))
    }
  }
}
