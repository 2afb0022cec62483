import CHost
import Machine
import Memory
import Testing
import X86

@testable import Processor

/// Accesses to devices that are answered while the engine runs.
@Suite(.onBothEngines) struct ResponderTests {
  typealias Layout = TestProcessor.Layout

  private static let hlt: UInt8 = 0xf4
  /// Where a large page leads beyond RAM, and where that is.
  private static let device: UInt64 = 0x20_0000
  private static let devicePhysical: UInt64 = 0x40_0000
  private static let deviceEntry = Layout.pageTables + 0x2008

  /// Answers reads with their number, from 1, and remembers all.
  private final class Responder: ExitResponder {
    let cpu: UnsafeMutablePointer<CPUState>
    var exits: [VMExit] = []
    var mxcsr: [UInt32] = []
    var isRefusing = false
    /// The bits of the attention word that are raised by each.
    var attention = CPUAttention()

    init(_ cpu: UnsafeMutablePointer<CPUState>) { self.cpu = cpu }

    func respond(to exit: VMExit) {
      mxcsr.append(nativeMXCSR())
      // Sets exception flags.
      exits.append(exit)
      _ = Double(exits.count) / 3
      attentionRaise(UnsafeMutablePointer(mutating: cpu.pointee.engine.attention!), attention)
      guard !exit.isWrite else { return }
      cpu.pointee.completion.data = UInt64(exits.count)
      cpu.pointee.completion.isValid = 1
      cpu.pointee.completion.isRefused = isRefusing ? 1 : 0
    }
  }

  private static func prepare(_ code: [UInt8]) -> (TestProcessor, SoftwareEngine, Responder) {
    let (test, engine) = EngineEventTests.prepare(code, handlers: [13: [hlt], 14: [hlt]])
    test.store(devicePhysical | 0xe7, deviceEntry)
    test.cpu.pointee.cr4 |= CR4.osfxsr | CR4.osxmmexcpt
    test.cpu.pointee.gpr.6 = device
    test.cpu.pointee.gpr.2 = 0x60
    return (test, engine, Responder(test.cpu))
  }

  private static func run(_ test: TestProcessor, _ engine: SoftwareEngine, _ responder: Responder?) throws -> VMExit {
    try engine.run(&test.cpu.pointee, budget: 100_000, responder: responder)
  }

  private static func address(_ offset: UInt64) -> GuestPhysicalAddress {
    GuestPhysicalAddress(devicePhysical + offset)
  }

  @Test func answersWithoutLeaving() throws {
    // 16 times: MOV EAX, [RSI+10H]; ADD RBX, RAX; MOV [RSI+18H], EBX; IN AL, DX; OUT DX, AL; DEC ECX; JNZ.
    let (test, engine, responder) = Self.prepare(
      [0x8b, 0x46, 0x10, 0x48, 0x01, 0xc3, 0x89, 0x5e, 0x18, 0xec, 0xee, 0xff, 0xc9, 0x75, 0xf1, Self.hlt])
    test.cpu.pointee.gpr.1 = 16
    #expect(try Self.run(test, engine, responder) == .halt)
    var expected: [VMExit] = []
    var sum: UInt64 = 0
    for _ in 0..<16 {
      expected.append(.memoryRead(address: Self.address(0x10), size: 4))
      sum += UInt64(expected.count)
      expected.append(.memoryWrite(address: Self.address(0x18), size: 4, value: sum))
      expected.append(.portRead(port: 0x60, size: 1))
      expected.append(.portWrite(port: 0x60, size: 1, value: UInt32(expected.count)))
    }
    #expect(responder.exits == expected && test.cpu.pointee.gpr.3 == sum)
    #expect(test.cpu.pointee.completion.isValid == 0 && test.cpu.pointee.instructionCount == 16 * 7 + 1)
  }

  /// Several reads of one instruction, and one that ends in a fault of another page.
  @Test func readsOfOneInstruction() throws {
    // MOVUPS XMM1, [RSI]; MOVQ RAX, XMM1; MOVSQ to a page that is missing.
    let (test, engine, responder) = Self.prepare(
      [0x0f, 0x10, 0x0e, 0x66, 0x48, 0x0f, 0x7e, 0xc8, 0x48, 0xa5, Self.hlt])
    test.cpu.pointee.gpr.7 = 0x40_0000
    #expect(try Self.run(test, engine, responder) == .halt)
    #expect(test.cpu.pointee.gpr.0 == 1 && test.cpu.pointee.cr2 == 0x40_0000)
    #expect(test.cpu.pointee.gpr.6 == Self.device && test.cpu.pointee.gpr.7 == 0x40_0000)
    #expect(
      responder.exits
        == [
          .memoryRead(address: Self.address(0), size: 8), .memoryRead(address: Self.address(8), size: 8),
          .memoryRead(address: Self.address(0), size: 8),
        ])
  }

  @Test func refusalsFault() throws {
    // RDMSR of a register that no processor has.
    let (test, engine, responder) = Self.prepare([0x0f, 0x32, Self.hlt])
    responder.isRefusing = true
    test.cpu.pointee.gpr.1 = 0x4000_0123
    #expect(try Self.run(test, engine, responder) == .halt)
    #expect(responder.exits == [.msrRead(index: 0x4000_0123)])
    #expect(test.cpu.pointee.rip == 0x5_0000 + 13 * 0x40 + 1)
    #expect(test.cpu.pointee.completion.isRefused == 0)
  }

  /// What the responder wants done comes before the next instruction.
  @Test(arguments: [
    [0x8b, 0x46, 0x10] as [UInt8], [0x89, 0x46, 0x10], [0xec], [0xee],
    // The same where they are in the middle of a block.
    [0x90, 0x8b, 0x46, 0x10], [0x90, 0x89, 0x46, 0x10], [0x90, 0xee],
  ])
  func attentionComesFirst(instruction: [UInt8]) throws {
    let inc: [UInt8] = [0x48, 0xff, 0xc3]
    let (test, engine, responder) = Self.prepare(instruction + inc + [Self.hlt])
    responder.attention = .interrupt
    for _ in 0..<3 {
      test.cpu.pointee.rip = Layout.code
      #expect(try Self.run(test, engine, responder) == .attention(CPUAttention.interrupt.rawValue))
      #expect(test.cpu.pointee.rip == Layout.code + UInt64(instruction.count) && test.cpu.pointee.gpr.3 == 0)
    }
    #expect(responder.exits.count == 3)
    #expect(try Self.run(test, engine, responder) == .halt)
    #expect(test.cpu.pointee.gpr.3 == 1)
  }

  /// The host's code runs under its own controls and leaves no mark on the guest's.
  @Test func controlsAreTheHosts() throws {
    // LDMXCSR [RDI]; MOV EAX, [RSI]; OUT DX, AL; STMXCSR [RDI+4].
    let (test, engine, responder) = Self.prepare(
      [0x0f, 0xae, 0x17, 0x8b, 0x06, 0xee, 0x0f, 0xae, 0x5f, 0x04, Self.hlt])
    test.cpu.pointee.gpr.7 = Layout.data
    // Everything unmasked, rounding to zero.
    test.store(0x6000 as UInt32, Layout.data)
    let host = nativeMXCSR()
    #expect(try Self.run(test, engine, responder) == .halt)
    #expect(test.load(Layout.data + 4, as: UInt32.self) == 0x6000)
    #expect(responder.mxcsr.count == 2 && responder.mxcsr.allSatisfy { $0 & ~0x3f == host & ~0x3f })
  }

  /// While x87 registers are in the host's, one exit brings them back; what comes behind is answered.
  @Test func x87RegistersAreKept() throws {
    // FNINIT; FLDPI; MOV EAX, [RSI]; MOV EBX, [RSI]; FSTP QWORD [RDI].
    let (test, engine, responder) = Self.prepare([0xdb, 0xe3, 0xd9, 0xeb, 0x8b, 0x06, 0x8b, 0x1e, 0xdd, 0x1f, Self.hlt])
    test.cpu.pointee.gpr.7 = Layout.data
    #expect(try Self.run(test, engine, responder) == .memoryRead(address: Self.address(0), size: 4))
    test.cpu.pointee.completion = ExitCompletion(
      data: 9, isValid: 1, isRefused: 0, reserved: (0, 0, 0, 0, 0, 0))
    #expect(try Self.run(test, engine, responder) == .halt)
    #expect(test.cpu.pointee.gpr.0 == 9 && test.cpu.pointee.gpr.3 == 1 && responder.exits.count == 1)
    #expect(test.load(Layout.data, as: Double.self) == Double.pi)
  }

  /// The processor's number needs nobody, but where somebody watches.
  @Test func theNumberIsKnown() throws {
    // MOV EAX, [RSI+20H]; MOVZX EBX, BYTE [RSI+23H].
    let (test, engine, responder) = Self.prepare([0x8b, 0x46, 0x20, 0x0f, 0xb6, 0x5e, 0x23, Self.hlt])
    test.cpu.pointee.engine.numberAddress = Self.devicePhysical + 0x20
    test.cpu.pointee.engine.number = 0x0700_0000
    #expect(try Self.run(test, engine, responder) == .halt)
    #expect(test.cpu.pointee.gpr.0 == 0x0700_0000 && test.cpu.pointee.gpr.3 == 1)
    #expect(responder.exits == [.memoryRead(address: Self.address(0x23), size: 1)])
    test.cpu.pointee.rip = Layout.code
    test.cpu.pointee.activity = .running
    #expect(try Self.run(test, engine, nil) == .memoryRead(address: Self.address(0x20), size: 4))
  }

  // MARK: Pages of devices

  /// Each is found once and then known, until something changes that matters: another entry and INVLPG, CR3, or the wish
  /// to write.
  @Test func knownPagesFollowTheTables() throws {
    // MOV EAX, [RSI]; MOV EAX, [RSI]; MOV [R8], R9; INVLPG [RSI]; MOV EAX, [RSI]; MOV [R8], R10; MOV CR3, R11;
    // MOV EAX, [RSI]; MOV [R8], R12; INVLPG [RSI]; MOV EAX, [RSI].
    let read: [UInt8] = [0x8b, 0x06]
    let invalidate: [UInt8] = [0x0f, 0x01, 0x3e]
    let code =
      read + read + [0x4d, 0x89, 0x08] + invalidate + read + [0x4d, 0x89, 0x10, 0x41, 0x0f, 0x22, 0xdb] + read
      + [0x4d, 0x89, 0x20] + invalidate + read
    let (test, engine, responder) = Self.prepare(code + [Self.hlt])
    test.cpu.pointee.gpr.8 = Self.deviceEntry
    test.cpu.pointee.gpr.9 = Self.devicePhysical + 0x20_0000 | 0xe7
    test.cpu.pointee.gpr.10 = Self.devicePhysical + 0x40_0000 | 0xe7
    test.cpu.pointee.gpr.11 = test.cpu.pointee.cr3
    test.cpu.pointee.gpr.12 = 0
    #expect(try Self.run(test, engine, responder) == .halt)
    #expect(
      responder.exits
        == [0, 0, 0x20_0000, 0x40_0000].map { .memoryRead(address: Self.address($0), size: 4) })
    #expect(test.cpu.pointee.cr2 == Self.device)
  }

  /// A page that was read may still not be written, and one that is written for the first time becomes dirty.
  @Test(arguments: [0xa5, 0xa7] as [UInt64])
  func writesAreTheirOwn(rights: UInt64) throws {
    // MOV EAX, [RSI] twice, MOV [RSI], EAX twice.
    let (test, engine, responder) = Self.prepare([0x8b, 0x06, 0x8b, 0x06, 0x89, 0x06, 0x89, 0x06, Self.hlt])
    test.store(Self.devicePhysical | rights, Self.deviceEntry)
    #expect(try Self.run(test, engine, responder) == .halt)
    let entry: UInt64 = test.load(Self.deviceEntry)
    if rights & 2 == 0 {
      #expect(responder.exits.count == 2 && entry & 0x40 == 0 && test.cpu.pointee.cr2 == Self.device)
    } else {
      #expect(responder.exits.count == 4 && entry & 0x40 != 0 && test.cpu.pointee.cr2 == 0)
    }
  }
}
