import Testing

extension GuestTests {
  /// Other systems than the default guest, and other processors than the default one.
  @Suite struct SystemTests {
    /// A guest's processors by their options, and what its kernel finds in them.
    struct Machine: CustomTestStringConvertible, Sendable {
      let guest: String
      let model: String
      let count: String
      let vendor: String
      let features: Set<Substring>
      let missing: Set<Substring>

      var testDescription: String { "\(guest) on \(count) \(model)" }
      /// As the kernel has it: by the processor's family.
      var kind: String { guest == "default" ? "x86_64" : model.hasPrefix("pentium") ? "i586" : "i686" }

      static let all = [
        // Page-table entries of 64 bits, NX.
        Machine(
          guest: "i386-pae", model: "max", count: "2", vendor: "GenuineIntel",
          features: ["pae", "nx", "sep", "fxsr", "sse2"], missing: []),
        // Page tables of two levels; CMOV is all that this kernel wants beyond a Pentium.
        Machine(
          guest: "i386", model: "pentium,+cmov", count: "1", vendor: "GenuineIntel",
          features: ["fpu", "tsc", "cx8", "cmov"], missing: ["pae", "nx", "sep", "fxsr", "sse", "lm"]),
        Machine(
          guest: "default", model: "x86-64-v1,vendor=amd", count: "1", vendor: "AuthenticAMD",
          features: ["lm", "sse2"], missing: ["pni", "ssse3", "sse4_2", "popcnt", "avx"]),
        Machine(
          guest: "default", model: "x86-64-v2,vendor=intel", count: "2", vendor: "GenuineIntel",
          features: ["ssse3", "sse4_2", "popcnt", "cx16"], missing: ["avx", "avx2", "fma"]),
        Machine(
          guest: "default", model: "x86-64-v3,vendor=amd,-avx2", count: "1", vendor: "AuthenticAMD",
          features: ["avx", "fma", "bmi2", "movbe"], missing: ["avx2"]),
        Machine(
          guest: "default", model: "max,vendor=intel,-smap,-smep,-fsgsbase,-pcid,-x2apic", count: "4",
          vendor: "GenuineIntel", features: ["sse4_2", "xsave", "rdrand"],
          missing: ["smap", "smep", "fsgsbase", "pcid", "x2apic"]),
      ]
    }

    @Test(arguments: Program.engines, Machine.all) func kernelBootsAndWorks(engine: String, machine: Machine) throws {
      let console = try GuestConsole(
        run: [
          "--engine", engine, "--kernel", Program.file("vmlinuz", of: machine.guest), "--initrd",
          Program.file("initrd.gz", of: machine.guest), "--cpu", machine.model, "--cpus", machine.count, "--append",
          "console=ttyS0 quiet panic=-1", "--no-reboot",
        ])
      try console.waitForShell()
      #expect(try console.run("uname -m") == (machine.kind, 0))
      #expect(try console.run("nproc") == (machine.count, 0))
      #expect(try console.run("awk '/^vendor_id/ { print $3; exit }' /proc/cpuinfo") == (machine.vendor, 0))
      let line = try console.run("awk '/^flags/ { print; exit }' /proc/cpuinfo").output
      let features = Set(line.split { $0.isWhitespace })
      #expect(features.isSuperset(of: machine.features) && features.isDisjoint(with: machine.missing), "\(features)")
      let sum = "seq 1 20000 | sha256sum"
      let host = try Program.runOnHost(sum)
      #expect(try console.run(sum).output + "\n" == host.output)
      #expect(try console.run("awk 'BEGIN { printf \"%.10f\", 2 / 7 }'") == ("0.2857142857", 0))
      try console.type("poweroff -f\n")
      #expect(try console.waitForEnd() == .status(0), "\(console.transcript.suffix(500)) \(console.errors)")
      #expect(console.errors == "")
    }

    /// Both builds of memtest86+ find the memory, on one and on two processors, and no error in it. The test that it has
    /// come to in the end only waits.
    @Test(arguments: Program.engines, [("x64", "1"), ("ia32", "2")])
    func memoryTest(engine: String, variant: (build: String, count: String)) throws {
      let console = try GuestConsole(
        run: [
          "--engine", engine, "--kernel", Program.file("memtest86+\(variant.build).bin", of: "memtest"), "--memory",
          "8M", "--cpus", variant.count, "--append", "console=ttyS0,115200 smp",
        ])
      try console.wait(for: "[Bit fade test, 2 patterns]")
      let screen = console.transcript
      for text in ["Memtest86+ v", "| Ringside Virtual CPU", "Memory  :    8MB", "CPU: \(variant.count) Core"] {
        #expect(screen.contains(text), "no \(text) on \(screen)")
      }
      let counts = screen.matches(of: /Errors: (\d+)/).map(\.1)
      #expect(!counts.isEmpty && counts.allSatisfy { $0 == "0" }, "\(counts)")
      console.process.kill()
    }
  }
}
