import Testing

extension GuestTests {
  /// Small guests without an operating system.
  @Suite struct BareMetalTests {
    let directory: TemporaryDirectory

    init() throws { directory = try TemporaryDirectory() }

    /// Runs a guest in 16 MiB with the debug-exit port.
    private func run(
      _ guest: GuestAssembler, _ engine: String, _ options: [String] = [], within limit: Duration = .seconds(120)
    ) throws -> ProgramRun {
      let kernel = try directory.file("guest.elf", containing: GuestImage.elf(guest))
      return try Program.run(
        ["run", "--engine", engine, "--memory", "16M", "--kernel", kernel, "--no-reboot", "--debug-exit", "0xf4"]
          + options, within: limit)
    }

    @Test(arguments: Program.engines, [0, 1, 5, 127] as [UInt8])
    func debugExitSetsTheStatus(engine: String, value: UInt8) throws {
      let run = try run(GuestAssembler { $0.exit(value) }, engine)
      #expect(run.ending == .status(Int32(value) << 1 | 1), "\(run)")
      #expect(run.output == "")
    }

    @Test(arguments: Program.engines) func debugExitIsWhereItWasPut(engine: String) throws {
      let guest = GuestAssembler { guest in
        guest.out(port: 0xf4, 1)
        guest.out(port: 0x501, 2)
        guest.waitForever()
      }
      let kernel = try directory.file("guest.elf", containing: GuestImage.elf(guest))
      let run = try Program.run(
        ["run", "--engine", engine, "--memory", "16M", "--kernel", kernel, "--debug-exit", "0x501"])
      #expect(run.ending == .status(5), "\(run)")
    }

    @Test(arguments: Program.engines) func serialPortIsStandardOutput(engine: String) throws {
      let run = try run(hello, engine)
      #expect(run.ending == .status(1), "\(run)")
      #expect(run.output == "Hello, 世界\n")
    }

    @Test(arguments: Program.engines) func serialPortGoesToAFile(engine: String) throws {
      let file = directory.file("serial.txt")
      let run = try run(hello, engine, ["--serial", "file:\(file)"])
      #expect(run.ending == .status(1), "\(run)")
      #expect(run.output == "")
      #expect(try contents(ofFile: file) == Array("Hello, 世界\n".utf8))
    }

    @Test(arguments: Program.engines) func serialPortGoesNowhere(engine: String) throws {
      let run = try run(hello, engine, ["--serial", "none"])
      #expect(run.ending == .status(1), "\(run)")
      #expect(run.output == "")
    }

    private var hello: GuestAssembler {
      GuestAssembler { guest in
        guest.setUpSerialPort()
        guest.print("Hello, 世界\n")
        guest.exit(0)
      }
    }

    @Test(arguments: Program.engines) func tripleFaultIsReportedWithTheState(engine: String) throws {
      let guest = GuestAssembler { guest in
        guest.mov(.esi, 0x1234_5678)
        guest.tripleFault()
      }
      let run = try run(guest, engine)
      #expect(run.ending == .status(3), "\(run)")
      #expect(run.errors.contains("12345678"), "the registers are shown: \(run)")
    }

    /// The battery-backed memory survives a reset, RAM is loaded anew.
    @Test(arguments: Program.engines) func tripleFaultResetsTheMachine(engine: String) throws {
      let guest = GuestAssembler { guest in
        let again = guest.makeLabel()
        guest.out(port: 0x70, 0x50)
        guest.mov(.edx, 0x71)
        guest.in(size: 1)
        guest.and(.eax, 0xff)
        guest.cmp(.eax, 0x5a)
        guest.jmp(.equal, again)
        guest.out(port: 0x71, 0x5a)
        guest.tripleFault()
        guest.place(again)
        guest.exit(9)
      }
      let kernel = try directory.file("guest.elf", containing: GuestImage.elf(guest))
      let run = try Program.run(
        ["run", "--engine", engine, "--memory", "16M", "--kernel", kernel, "--debug-exit", "0xf4"])
      #expect(run.ending == .status(19), "\(run)")
    }

    @Test(arguments: Program.engines) func resetEndsARunWithoutReboot(engine: String) throws {
      let run = try run(
        GuestAssembler { guest in
          guest.out(port: 0xcf9, 0x06)
          guest.waitForever()
        }, engine)
      #expect(run.ending == .status(0), "\(run)")
    }

    /// The keyboard controller closes A20, and system control port A opens it again.
    @Test(arguments: Program.engines) func addressLine20(engine: String) throws {
      let guest = GuestAssembler { guest in
        let (low, high) = (0x500 as UInt32, 0x10_0500 as UInt32)
        for (address, value) in [(high, 0x1111), (low, 0x2222)] as [(UInt32, UInt32)] {
          guest.mov(.edi, address)
          guest.mov(.eax, value)
          guest.movToMemory(size: 4)
        }
        for (number, value) in [0x1111, 0x2222, 0x1111].enumerated() as EnumeratedSequence<[UInt32]> {
          if number == 1 { guest.out(port: 0x64, 0xdd) }
          if number == 2 { guest.out(port: 0x92, 2) }
          guest.mov(.edi, high)
          guest.movFromMemory(size: 4)
          guest.expect(.eax, value, orExit: UInt8(number + 1))
        }
        guest.exit(0)
      }
      let run = try run(guest, engine)
      #expect(run.ending == .status(1), "\(run)")
    }

    /// A division by zero with CR0.NE clear: interrupt 13, whose handler uses the x87 unit before it clears the error.
    @Test(arguments: Program.engines) func numericErrorIsInterrupt13(engine: String) throws {
      let guest = GuestAssembler { guest in
        let past = guest.makeLabel()
        guest.jmp(past)
        let handler = GuestAssembler.base + UInt32(guest.bytesSoFar)
        // PUSHA … FLD1; FNCLEX … POPA; INC EBX.
        guest.emit(0x60)
        guest.out(port: 0xf0, 0)
        guest.emit(0xd9, 0xe8, 0xdb, 0xe2)
        guest.out(port: 0xa0, 0x20)
        guest.out(port: 0x20, 0x20)
        guest.emit(0x61, 0x43)
        guest.iret()
        guest.align(8)
        let table = guest.here()
        for _ in 0...0x2d {
          guest.emit16(UInt16(truncatingIfNeeded: handler))
          guest.emit16(8)
          guest.emit16(0x8e00)
          guest.emit16(UInt16(handler >> 16))
        }
        let pointer = guest.here()
        guest.emit16(0x2e * 8 - 1)
        guest.emitAddress(of: table)
        let control = guest.here()
        guest.emit16(0x37b)
        guest.place(past)
        guest.lidt(pointer)
        for (port, values) in [
          (0x20, [0x11]), (0x21, [0x20, 4, 1, 0xfb]), (0xa0, [0x11]), (0xa1, [0x28, 2, 1, 0xdf]),
        ]
          as [(UInt32, [UInt8])]
        {
          for value in values { guest.out(port: port, value) }
        }
        guest.mov(.ebx, 0)
        // FNINIT; FLDCW; FLDZ; FLD1; FDIVRP; STI; FWAIT.
        guest.emit(0xdb, 0xe3, 0xd9, 0x2d)
        guest.emitAddress(of: control)
        guest.emit(0xd9, 0xee, 0xd9, 0xe8, 0xde, 0xf1, 0xfb, 0x9b)
        guest.expect(.ebx, 1, orExit: 2)
        guest.exit(0)
      }
      let run = try run(guest, engine)
      #expect(run.ending == .status(1), "\(run)")
    }

    /// RAM full of zeros, the hole below 4 GiB, the APICs' registers, the firmware's place, and the end of everything.
    @Test(arguments: Program.engines, [0x40_0000, 0x8000_0000, 0xfec0_0000, 0xfee0_0000, 0xffff_0000, 0xffff_ffff])
    func jumpIntoNowhereIsACrash(engine: String, target: UInt32) throws {
      let guest = GuestAssembler { guest in
        let (nothing, past) = (guest.makeLabel(), guest.makeLabel())
        guest.jmp(past)
        guest.place(nothing)
        guest.emit16(0)
        guest.emit32(0)
        guest.place(past)
        guest.lidt(nothing)
        // Zeros are ADD [EAX],AL: let them hit something harmless.
        guest.mov(.eax, 0x30_0000)
        guest.mov(.ecx, target)
        guest.jmp(.ecx)
      }
      let run = try run(guest, engine)
      #expect(run.ending == .status(3), "\(run)")
    }

    @Test(arguments: Program.engines, [1, 20_261_122] as [UInt32])
    func randomWritesToEveryPort(engine: String, seed: UInt32) throws {
      let run = try run(GuestStorms.ports(seed: seed), engine)
      #expect(run.ending == .status(42 << 1 | 1), "\(run)")
    }

    @Test(arguments: Program.engines, [1, 20_261_122] as [UInt32])
    func randomWritesToTheInterruptControllers(engine: String, seed: UInt32) throws {
      let run = try run(GuestStorms.interruptControllers(seed: seed), engine)
      #expect(run.ending == .status(43 << 1 | 1), "\(run)")
    }

    /// The guest may end itself in any way that a guest can, or go on; the program must not come to harm.
    @Test(arguments: Program.engines, 1...40 as ClosedRange<UInt32>)
    func randomWritesAnywhere(engine: String, seed: UInt32) throws {
      let kernel = try directory.file("guest.elf", containing: GuestImage.elf(GuestStorms.anything(seed: seed)))
      let process = try ChildProcess(
        [
          Program.path, "run", "--engine", engine, "--memory", "16M", "--kernel", kernel, "--no-reboot", "--debug-exit",
          "0xf4",
        ], wiring: .batch)
      switch process.waitForEnd(within: .seconds(2)) {
      case nil: process.kill()
      case .status(let status): #expect(status == 0 || status == 3 || status & 1 == 1)
      case .signal(let number):
        let said = String(decoding: process.errors.suffix(2000), as: UTF8.self)
        Issue.record("ended by signal \(number): \(said)")
      }
    }
  }
}
