import CHost
import Foundation
import Machine
import Testing
import X86

@testable import Processor

/// Events through the whole engine: small programs in 64-bit mode, with handlers of their own.
@Suite(.onBothEngines) struct EngineEventTests {
  typealias Layout = TestProcessor.Layout

  /// A machine that runs `code` at CPL `ring`, with `handlers` at their vectors' gates.
  static func prepare(_ code: [UInt8], ring: Int = 0, handlers: [Int: [UInt8]]) -> (TestProcessor, SoftwareEngine) {
    let test = TestProcessor(.long64, ring: ring)
    test.place(code)
    for (vector, handler) in handlers {
      let address = 0x5_0000 + UInt64(vector) * 0x40
      test.place(handler, at: address)
      test.setGate(vector, TestProcessor.selector(TestProcessor.Entry.code64), address, access: 0xee)
    }
    return (test, EngineUnderTest.make(test.memory))
  }

  /// INC RBX and IRETQ.
  static let counting: [UInt8] = [0x48, 0xff, 0xc3, 0x48, 0xcf]
  static let nop: UInt8 = 0x90
  static let hlt: UInt8 = 0xf4

  static func run(_ test: TestProcessor, _ engine: SoftwareEngine, budget: UInt64 = 100_000) throws -> VMExit {
    try engine.run(&test.cpu.pointee, budget: budget)
  }

  @Test func singleSteps() throws {
    // PUSHFQ; OR DWORD [RSP], 100H; POPFQ; five NOPs; PUSHFQ; AND DWORD [RSP], ~100H; POPFQ; HLT.
    let code: [UInt8] =
      [0x9c, 0x81, 0x0c, 0x24, 0, 1, 0, 0, 0x9d] + [UInt8](repeating: Self.nop, count: 5)
      + [0x9c, 0x81, 0x24, 0x24, 0xff, 0xfe, 0xff, 0xff, 0x9d, Self.hlt]
    let (test, engine) = Self.prepare(code, handlers: [1: Self.counting])
    #expect(try Self.run(test, engine) == .halt)
    #expect(test.cpu.pointee.gpr.3 == 8, "traps behind the NOPs, PUSHFQ, AND and POPFQ")
    #expect(test.cpu.pointee.dr6 == DebugStatus.fixed | 0x4000)
  }

  /// SYSRET that sets TF traps, before the first instruction that it returns to.
  @Test func systemReturnTraps() throws {
    // MOV R11D, 102H; MOV ECX, 4100H; SYSRETQ. The handler keeps the RIP that it finds, and halts.
    let code: [UInt8] = [0x41, 0xbb, 2, 1, 0, 0, 0xb9, 0, 0x41, 0, 0, 0x48, 0x0f, 0x07]
    let (test, engine) = Self.prepare(code, handlers: [1: [0x48, 0x8b, 0x1c, 0x24, Self.hlt]])
    test.cpu.pointee.efer |= EFER.sce
    test.cpu.pointee.star = 0x0040_0050 << 32
    #expect(try Self.run(test, engine) == .halt)
    #expect(test.cpu.pointee.gpr.3 == 0x4100 && test.cpu.pointee.dr6 == DebugStatus.fixed | 0x4000)
  }

  @Test func breakpoints() throws {
    // MOV [data], EAX twice, two NOPs, the second with a breakpoint, HLT. The handler sets RF in the image, so that no
    // instruction breakpoint strikes right behind a trap.
    let store: [UInt8] = [0x89, 0x04, 0x25, 0, 0, 6, 0]
    let code = store + store + [Self.nop, Self.nop, Self.hlt]
    let handler: [UInt8] = [0x48, 0xff, 0xc3, 0x81, 0x4c, 0x24, 0x10, 0, 0, 1, 0, 0x48, 0xcf]
    let (test, engine) = Self.prepare(code, handlers: [1: handler])
    test.cpu.pointee.dr.0 = Layout.data
    test.cpu.pointee.dr.3 = Layout.code + 15
    test.cpu.pointee.dr7 = 0x400 | 1 << 16 | 3 << 18 | 2 | 1 << 6
    #expect(try Self.run(test, engine) == .halt)
    #expect(test.cpu.pointee.gpr.3 == 3)
  }

  @Test func haltsAndInterrupts() throws {
    // STI; HLT; CLI; HLT.
    let (test, engine) = Self.prepare([0xfb, Self.hlt, 0xfa, Self.hlt], handlers: [0x30: Self.counting])
    #expect(try Self.run(test, engine) == .halt && test.cpu.pointee.rip == Layout.code + 2)
    test.cpu.pointee.interruptPending = 1
    test.cpu.pointee.interruptVector = 0x30
    #expect(try Self.run(test, engine) == .halt)
    #expect(test.cpu.pointee.gpr.3 == 1 && test.cpu.pointee.rip == Layout.code + 4)
  }

  @Test func interruptWindow() throws {
    // STI; three NOPs; HLT.
    let (test, engine) = Self.prepare([0xfb, Self.nop, Self.nop, Self.nop, Self.hlt], handlers: [:])
    test.cpu.pointee.wantsInterruptWindow = 1
    #expect(try Self.run(test, engine) == .interruptWindow)
    #expect(test.cpu.pointee.rip == Layout.code + 2 && test.cpu.pointee.interruptShadow == [])
  }

  /// STI where interrupts are let in already casts no shadow, even if it did the last time.
  @Test func repeatedSTI() throws {
    // STI; DEC ECX; JNZ to the STI; HLT.
    let (test, engine) = Self.prepare([0xfb, 0xff, 0xc9, 0x75, 0xfb, Self.hlt], handlers: [:])
    test.cpu.pointee.gpr.1 = 5
    #expect(try Self.run(test, engine, budget: 1) == .budgetSpent)
    #expect(test.cpu.pointee.interruptShadow == .STI)
    for _ in 0..<2 {
      // All but the last has run on from one STI to the next.
      #expect(try Self.run(test, engine, budget: 3) == .budgetSpent)
      #expect(test.cpu.pointee.rip == Layout.code + 1 && test.cpu.pointee.interruptShadow == [])
    }
    test.cpu.pointee.wantsInterruptWindow = 1
    #expect(try Self.run(test, engine) == .interruptWindow)
    #expect(test.cpu.pointee.rip == Layout.code + 1)
  }

  /// A loop that comes back to the instruction behind STI, but not to STI, is not in its shadow any more.
  @Test func passedShadow() throws {
    // STI; DEC ECX; JNZ to the DEC; HLT.
    let (test, engine) = Self.prepare([0xfb, 0xff, 0xc9, 0x75, 0xfc, Self.hlt], handlers: [:])
    test.cpu.pointee.gpr.1 = 100
    for budget in [3, 1, 1, 40] as [UInt64] {
      #expect(try Self.run(test, engine, budget: budget) == .budgetSpent)
      #expect(test.cpu.pointee.interruptShadow == [], "budget \(budget)")
    }
    #expect(test.cpu.pointee.rip == Layout.code + 1)
    test.cpu.pointee.wantsInterruptWindow = 1
    #expect(try Self.run(test, engine) == .interruptWindow)
    #expect(test.cpu.pointee.rip == Layout.code + 1)
  }

  /// A budget that ends behind STI takes nothing from its shadow.
  @Test func shadowOutlastsABudget() throws {
    // STI; INC RCX; INC RCX; HLT.
    let (test, engine) = Self.prepare(
      [0xfb, 0x48, 0xff, 0xc1, 0x48, 0xff, 0xc1, Self.hlt], handlers: [0x30: Self.counting])
    test.cpu.pointee.gpr.1 = 0
    test.cpu.pointee.interruptPending = 1
    test.cpu.pointee.interruptVector = 0x30
    for count in [0, 1] as [UInt64] {
      #expect(try Self.run(test, engine, budget: 1) == .budgetSpent)
      #expect(test.cpu.pointee.gpr.1 == count && test.cpu.pointee.interruptPending == 1)
    }
    #expect(try Self.run(test, engine) == .halt)
    #expect(test.cpu.pointee.gpr.3 == 1 && test.cpu.pointee.gpr.1 == 2)
  }

  /// A guest whose handlers fault themselves comes back when its budget is spent.
  @Test func faultsSpendTheBudget() throws {
    // UD2, whose handler is another UD2 on an interrupt stack that is always the same.
    let (test, engine) = Self.prepare([0x0f, 0x0b], handlers: [6: [0x0f, 0x0b]])
    let gate = Layout.idt + 6 * 16
    test.store(test.load(gate, as: UInt64.self) | 1 << 32, gate)
    #expect(try Self.run(test, engine) == .budgetSpent)
    #expect(test.cpu.pointee.instructionCount == 0 && test.cpu.pointee.rip == 0x5_0000 + 6 * 0x40)
  }

  /// The instruction behind STI runs before an interrupt that waits already.
  @Test func shadow() throws {
    let (test, engine) = Self.prepare(
      [0xfb, 0x48, 0xff, 0xc1, 0x48, 0xff, 0xc1, Self.hlt],
      handlers: [0x30: [0x48, 0x89, 0xcb, 0x48, 0xcf]])
    test.cpu.pointee.interruptPending = 1
    test.cpu.pointee.interruptVector = 0x30
    test.cpu.pointee.gpr.1 = 0
    #expect(try Self.run(test, engine) == .halt)
    #expect(test.cpu.pointee.gpr.3 == 1, "RCX as the handler saw it")
  }

  /// Bytes that are no instruction become one: the block that ended with them knows all of them.
  @Test func changedBytesOfAnInvalidInstruction() throws {
    // MOV BYTE [RIP + 1], 41H; DB 34H, which is FILD DWORD [RCX + disp8] with 41H for 34H; HLT.
    let code: [UInt8] = [0xc6, 0x05, 1, 0, 0, 0, 0x41, 0xdb, 0x34, 0, Self.hlt]
    let (test, engine) = Self.prepare(code, handlers: [6: [Self.hlt]])
    test.cpu.pointee.gpr.1 = Layout.data
    #expect(try Self.run(test, engine) == .halt)
    #expect(test.cpu.pointee.rip == Layout.code + UInt64(code.count))
  }

  /// The last instruction of 4 GiB reaches over to address 0 and changes itself there: the next one is within 4 GiB.
  @Test func codeWrapsAt4GiB() throws {
    let test = TestProcessor(.protected32)
    let engine = EngineUnderTest.make(test.memory)
    // There is no memory, so all ones, before INC DWORD [EAX].
    test.store(0x00 as UInt8, 0)
    test.cpu.pointee.gpr.0 = 4
    test.cpu.pointee.rip = 0xffff_ffff
    engine.stateChanged(&test.cpu.pointee)
    #expect(try Self.run(test, engine, budget: 1) == .budgetSpent)
    #expect(test.cpu.pointee.rip == 1 && test.load(4, as: UInt32.self) == 1)
  }

  @Test func faultsAreRestarted() throws {
    // MOV EAX, [300000H]: the handler maps the page (2 MiB at 200000H onto 0) and returns.
    let code: [UInt8] = [0x8b, 0x04, 0x25, 0, 0, 0x30, 0, Self.hlt]
    // MOV QWORD [page directory + 8], 87H; ADD RSP, 8; IRETQ.
    let handler: [UInt8] =
      [0x48, 0xc7, 0x04, 0x25, 0x08, 0x20, 0x02, 0x00, 0x87, 0, 0, 0, 0x48, 0x83, 0xc4, 8, 0x48, 0xcf]
    let (test, engine) = Self.prepare(code, handlers: [14: handler])
    test.store(0x1234_5678 as UInt32, 0x10_0000)
    #expect(try Self.run(test, engine) == .halt)
    #expect(test.cpu.pointee.gpr.0 == 0x1234_5678 && test.cpu.pointee.cr2 == 0x30_0000)
  }

  @Test func tripleFault() throws {
    let (test, engine) = Self.prepare([0x0f, 0x0b], handlers: [:])
    test.cpu.pointee.idtr.limit = 0
    #expect(try Self.run(test, engine) == .shutdown)
    #expect(test.cpu.pointee.rip == Layout.code)
    #expect(try Self.run(test, engine) == .shutdown)
  }

  /// Real-mode code at the same offset of two segments.
  @Test func segmentsWithBases() throws {
    let test = TestProcessor(.real)
    let engine = EngineUnderTest.make(test.memory)
    // INC BX; JMP 2000H:4000H. There: INC CX; HLT.
    for (index, byte) in ([0x43, 0xea, 0x00, 0x40, 0x00, 0x01] as [UInt8]).enumerated() {
      test.store(byte, Layout.code + UInt64(index))
    }
    for (index, byte) in ([0x41, Self.hlt] as [UInt8]).enumerated() {
      test.store(byte, 0x1000 + 0x4000 + UInt64(index))
    }
    #expect(try Self.run(test, engine) == .halt)
    #expect(test.cpu.pointee.gpr.3 == 1 && test.cpu.pointee.gpr.1 == 1)
  }

  /// A20 changes between two runs of the same code address, without any other change of the state.
  @Test func addressLine20() throws {
    let test = TestProcessor(.real)
    let engine = EngineUnderTest.make(test.memory)
    // INC BX or INC CX; HLT, at 0FFFFH:510H.
    for (address, opcode) in [(0x500 as UInt64, 0x43 as UInt8), (0x10_0500, 0x41)] {
      test.store(opcode, address)
      test.store(Self.hlt, address + 1)
    }
    for (round, isMasked) in [true, false, true].enumerated() {
      test.cpu.pointee.segments.1.selector = 0xffff
      test.cpu.pointee.segments.1.base = 0xf_fff0
      test.cpu.pointee.rip = 0x510
      test.cpu.pointee.activity = .running
      test.cpu.pointee.isA20Masked = isMasked ? 1 : 0
      #expect(try Self.run(test, engine) == .halt)
      #expect(test.cpu.pointee.gpr.3 == [1, 1, 2][round] && test.cpu.pointee.gpr.1 == [0, 1, 1][round])
    }
  }

  /// Near branches and the stack in flat 32-bit code, twice: the second time they hit the TLB.
  @Test func flat32BitCode() throws {
    let test = TestProcessor(.protected32)
    let engine = EngineUnderTest.make(test.memory)
    // MOV ECX, 3; loop: PUSH ECX; CALL f; POP EAX; DEC ECX; JNZ loop; PUSH -128; POP EDX; MOV EDI, 4020H; JMP EDI;
    // f: ADD EBX, ECX; INC EBX; RET.
    let first: [UInt8] = [
      0xb9, 3, 0, 0, 0, 0x51, 0xe8, 0x0e, 0, 0, 0, 0x58, 0x49, 0x75, 0xf6, 0x6a, 0x80, 0x5a, 0xbf, 0x20, 0x40, 0, 0,
      0xff, 0xe7, 0x01, 0xcb, 0x43, 0xc3,
    ]
    // CALL [60000H]; MOV ESI, f; CALL ESI; JMP [60004H].
    let second: [UInt8] = [
      0xff, 0x15, 0, 0, 6, 0, 0xbe, 0x19, 0x40, 0, 0, 0xff, 0xd6, 0xff, 0x25, 4, 0, 6, 0,
    ]
    test.place(first)
    test.place(second, at: Layout.code + 0x20)
    test.store(UInt32(Layout.code + 0x19), Layout.data)
    test.store(UInt32(Layout.code + 0x40), Layout.data + 4)
    test.store(Self.hlt, Layout.code + 0x40)
    for _ in 0..<2 {
      test.cpu.pointee.activity = .running
      test.cpu.pointee.rip = Layout.code
      test.cpu.pointee.gpr.3 = 0
      test.cpu.pointee.gpr.2 = ~0
      #expect(try Self.run(test, engine) == .halt)
      #expect(test.cpu.pointee.rip == Layout.code + 0x41 && test.cpu.pointee.gpr.4 == Layout.stack)
      #expect(test.cpu.pointee.gpr.3 == 11 && test.cpu.pointee.gpr.0 == 1 && test.cpu.pointee.gpr.2 == 0xffff_ff80)
      #expect(test.load(Layout.stack - 8, as: UInt32.self) == 0x400b)
    }
  }

  /// What the hot transfers cost; printed on request (RINGSIDE_BENCH).
  @Test(.enabled(if: ProcessInfo.processInfo.environment["RINGSIDE_BENCH"] != nil))
  func costs() throws {
    let rounds: UInt64 = 1_000_000
    func time(_ name: String, _ code: [UInt8], ring: Int = 3, handlers: [Int: [UInt8]] = [:])
      throws
    {
      let (test, engine) = Self.prepare(code, ring: ring, handlers: handlers)
      test.cpu.pointee.efer |= EFER.sce
      test.cpu.pointee.star = 0x0040_0050 << 32
      test.cpu.pointee.lstar = 0x5_f000
      test.place([0x48, 0x0f, 0x07], at: 0x5_f000)
      test.cpu.pointee.gpr.6 = 0x30_0000
      test.cpu.pointee.gpr.5 = rounds
      let start = ContinuousClock.now
      let exit = try Self.run(test, engine, budget: rounds * 1000)
      print("\(name): \(Int((ContinuousClock.now - start) / .nanoseconds(1)) / Int(rounds)) ns (\(exit))")
    }
    // DEC RBP; JNZ back; HLT is #GP in ring 3, whose handler halts.
    func loop(_ body: [UInt8]) -> [UInt8] {
      body + [0x48, 0xff, 0xcd, 0x75, UInt8(truncatingIfNeeded: -(body.count + 5)), Self.hlt]
    }
    let end: [Int: [UInt8]] = [13: [Self.hlt]]
    try time("empty loop", loop([]), handlers: end)
    try time("SYSCALL and SYSRET", loop([0x0f, 0x05]), handlers: end)
    try time("INT 80H and IRETQ", loop([0xcd, 0x80]), handlers: end.merging([0x80: [0x48, 0xcf]]) { $1 })
    try time("CLI and STI", loop([0xfa, 0xfb]), ring: 0)
    try time("PUSHFQ and POPFQ", loop([0x9c, 0x9d]), ring: 0)
    try time("STAC and CLAC", loop([0x0f, 0x01, 0xcb, 0x0f, 0x01, 0xca]), ring: 0)
    try time("SWAPGS", loop([0x0f, 0x01, 0xf8]), ring: 0)
    try time("RDMSR of LSTAR", loop([0xb9, 0x82, 0, 0, 0xc0, 0x0f, 0x32]), ring: 0)
    try time("MOV CR3", loop([0x0f, 0x20, 0xd8, 0x0f, 0x22, 0xd8]), ring: 0)
    try time("INVLPG", loop([0x0f, 0x01, 0x3e]), ring: 0)
    try time("CPUID", loop([0x31, 0xc0, 0x0f, 0xa2]), handlers: end)
    // Without the throw: the test library records a backtrace of each.
    let test = TestProcessor(.long64, ring: 3)
    let start = ContinuousClock.now
    for _ in 0..<rounds {
      test.cpu.pointee.gpr.4 = Layout.stack
      test.processor.deliver(.pageFault(address: 0x1234, errorCode: 6))
    }
    print("#PF from ring 0: \(Int((ContinuousClock.now - start) / .nanoseconds(1)) / Int(rounds)) ns")
  }
}
