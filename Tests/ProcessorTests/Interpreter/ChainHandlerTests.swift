import CHost
import CZydis
import Machine
import TestSupport
import Testing
import X86

@testable import Processor

/// Chain handlers do what the semantic functions do: each instruction runs in the chain, with the TLB filled, and by its
/// function on a second processor. Registers, flags and memory must be the same.
struct ChainHandlerTests {
  typealias Layout = TestProcessor.Layout
  typealias Mode = TestProcessor.Mode

  private static let hlt: UInt8 = 0xf4

  /// Near branches, the stack, moves on conditions and shifts of memory. EAX is a target, EBX points to data that begins
  /// with one, ESP and EBP to a stack of targets.
  private static let instructions: [[UInt8]] =
    [
      [0xeb, 0x10], [0xe9, 0x20, 1, 0, 0], [0xff, 0xe0], [0xff, 0x23],
      [0xe8, 0x20, 1, 0, 0], [0xff, 0xd0], [0xff, 0x13], [0xc3], [0xc2, 0x18, 0],
      [0x51], [0x54], [0x6a, 0x80], [0x68, 1, 2, 3, 0x84], [0xff, 0x33], [0xff, 0x74, 0x24, 8],
      [0x59], [0x5c], [0xc9],
      [0xc1, 0x23, 5], [0xc1, 0x2b, 31], [0xc1, 0x3b, 7], [0xc1, 0x2b, 0], [0xd1, 0x23], [0xd1, 0x2b], [0xd1, 0x3b],
      [0xd3, 0x23], [0xc1, 0x03, 9],
    ]
    + (0x70...0x7f).map { [$0, 0x30] }
    + (0x40...0x4f).flatMap { [[0x0f, $0, 0x0b], [0x0f, $0, 0xca]] }

  /// What has no handler: counts of zero are for the function, rotates and counts in CL of memory are too rare.
  private static let withoutHandler: [[UInt8]] = [[0xd3, 0x23], [0xc1, 0x03, 9]]

  /// Accesses through FS.
  private static let throughFS: [[UInt8]] = [
    [0x64, 0x8b, 0x0b], [0x64, 0xff, 0x03], [0x64, 0x89, 0x0b], [0x64, 0x03, 0x0b], [0x64, 0xff, 0x33],
    [0x64, 0xff, 0x13], [0x64, 0xff, 0x23],
  ]

  private static func handler(_ test: TestProcessor, _ code: [UInt8]) -> OperationHandler? {
    let padded = code + [UInt8](repeating: hlt, count: 15)
    let mode = test.processor.codeMode
    guard test.processor.decoder.decode(padded, count: padded.count, mode: mode) == nil else { return nil }
    let op = test.processor.decoder.operands(offset: 0, number: 0)
    return HandlerSelection.handler(for: test.processor.decoder.instruction.pointee.mnemonic, op, mode: mode, .host)
  }

  /// Sets registers, flags and memory alike on any processor.
  private static func set(_ test: TestProcessor, _ mode: Mode, _ code: [UInt8], seed: UInt64) {
    var random = SeededRandom(seed: seed)
    for address in stride(from: Layout.code, to: Layout.code + 0x2000, by: 8) {
      test.store(0xf4f4_f4f4_f4f4_f4f4 as UInt64, address)
    }
    test.place(code)
    func target() -> UInt64 { Layout.code + 0x200 + random.next() % 0xc00 }
    for address in stride(from: Layout.stack - 0x100, to: Layout.stack + 0x100, by: 8) {
      test.store(mode == .long64 ? target() : target() | target() << 32, address)
    }
    for address in stride(from: Layout.data, to: Layout.data + 0x100, by: 8) { test.store(random.next(), address) }
    // What is above 32 bits means nothing to 32-bit code.
    let garbage = mode == .long64 ? 0 : random.next() << 32
    let data = Layout.data + random.next() % 8 * 8
    test.store(mode == .long64 ? target() : target() | random.next() << 32, data)
    test.cpu.pointee.gpr.0 = target() | garbage
    test.cpu.pointee.gpr.1 = random.next()
    test.cpu.pointee.gpr.2 = random.next()
    test.cpu.pointee.gpr.3 = data | garbage
    test.cpu.pointee.gpr.4 = Layout.stack &+ random.next() % 8 * 8 | garbage
    test.cpu.pointee.gpr.5 = Layout.stack &+ random.next() % 8 * 8 | garbage
    test.cpu.pointee.rip = Layout.code
    test.cpu.pointee.rflags = 2 | random.next() & RFLAGS.arithmetic
    test.cpu.pointee.activity = .running
  }

  private static func registers(_ test: TestProcessor) -> [UInt64] {
    withUnsafeBytes(of: test.cpu.pointee.gpr) { Array($0.bindMemory(to: UInt64.self)) }
      + [test.cpu.pointee.rip, test.cpu.pointee.rflags]
  }

  private static func memory(_ test: TestProcessor) -> [UInt64] {
    [Layout.stack - 0x100, Layout.data].flatMap { start in
      (0..<64).map { test.load(start + $0 * 8, as: UInt64.self) }
    }
  }

  /// Runs `code` to the HLT behind it or at its target in the chain, and by its function.
  private static func compare(
    _ mode: Mode, _ code: [UInt8], rounds: UInt64 = 12, prepare: (TestProcessor) -> Void = { _ in }
  ) throws {
    let reference = TestProcessor(mode)
    let test = TestProcessor(mode)
    prepare(reference)
    prepare(test)
    reference.processor.modeChanged()
    let engine = SoftwareEngine(memory: test.memory, model: CPUModel())
    for seed in 0..<rounds {
      for round in 0..<2 {
        set(test, mode, code, seed: seed)
        prepare(test)
        if seed == 0, round == 0 { engine.stateChanged(&test.cpu.pointee) }
        #expect(try EngineEventTests.run(test, engine) == .halt)
      }
      set(reference, mode, code, seed: seed)
      prepare(reference)
      #expect(reference.execute(code) == nil)
      reference.cpu.pointee.rip &+= 1
      #expect(registers(test) == registers(reference), "\(mode) \(code) seed \(seed)")
      #expect(memory(test) == memory(reference), "\(mode) \(code) seed \(seed)")
    }
  }

  @Test(arguments: [Mode.protected32, .compatibility, .long64])
  func doWhatTheFunctionsDo(_ mode: Mode) throws {
    let test = TestProcessor(mode)
    for code in Self.instructions {
      #expect((Self.handler(test, code) != nil) == !Self.withoutHandler.contains(code), "\(mode) \(code)")
      try Self.compare(mode, code)
    }
  }

  /// 16-bit code and prefixes have none, nor has a 16-bit stack in 32-bit code.
  @Test func otherWidthsHaveNone() {
    let narrow = TestProcessor(.protected16)
    let wide = TestProcessor(.protected32)
    let mixed = TestProcessor(.protected32)
    mixed.setDescriptor(TestProcessor.Entry.scratch, TestProcessor.segment(access: 0x93, flags: 8))
    mixed.setSegment(.ss, TestProcessor.Entry.scratch, rpl: 0)
    for code in [[0xc3], [0x51], [0x59], [0xc9], [0xff, 0xd0], [0xe8, 0, 1, 0, 0]] as [[UInt8]] {
      #expect(Self.handler(narrow, code) == nil, "\(code)")
      #expect(Self.handler(wide, [0x66] + code) == nil, "\(code)")
      #expect(Self.handler(wide, code) != nil, "\(code)")
      #expect(Self.handler(mixed, code) == nil, "\(code)")
    }
    #expect(Self.handler(mixed, [0x74, 2]) != nil)
  }

  /// FS and GS have handlers where they have no limit, with any base, and their accesses wrap around at 4 GiB.
  @Test(arguments: [0, 0x40, 0xffff_ffc0] as [UInt64])
  func reachThroughFS(_ base: UInt64) throws {
    for code in Self.throughFS {
      try Self.compare(.protected32, code) { test in
        test.setDescriptor(TestProcessor.Entry.scratch, TestProcessor.segment(base: base, access: 0x93))
        test.setSegment(.fs, TestProcessor.Entry.scratch, rpl: 0)
        test.cpu.pointee.gpr.3 = (Layout.data &+ 0x40 &- base) & 0xffff_ffff
        test.store(UInt32(Layout.code + 0x300), Layout.data + 0x40)
      }
    }
  }

  @Test func limitsOfFSAreKept() throws {
    let closed = [
      TestProcessor.segment(limit: 0xffff, access: 0x93), TestProcessor.segment(access: 0x91),
      TestProcessor.segment(access: 0x9b), TestProcessor.segment(access: 0x97), 0,
    ]
    for raw in closed {
      let test = TestProcessor(.protected32)
      test.setDescriptor(TestProcessor.Entry.scratch, raw)
      test.setSegment(.fs, TestProcessor.Entry.scratch, rpl: 0)
      for code in Self.throughFS { #expect(Self.handler(test, code) == nil, "\(raw) \(code)") }
      #expect(Self.handler(test, [0x65, 0x8b, 0x0b]) != nil, "GS is open")
    }
    // Beyond 4 GiB a TLB of IA-32e mode may have something.
    let test = TestProcessor(.compatibility)
    for code in Self.throughFS { #expect(Self.handler(test, code) == nil, "\(code)") }
  }

  /// A segment that closes between two runs of the same code faults: MOV ECX, FS:[EBX].
  @Test func codeFollowsItsSegments() throws {
    let test = TestProcessor(.protected32)
    let engine = SoftwareEngine(memory: test.memory, model: CPUModel())
    // MOV FS, EAX; MOV ECX, FS:[EBX]; HLT.
    let code: [UInt8] = [0x8e, 0xe0, 0x64, 0x8b, 0x0b, Self.hlt]
    test.setDescriptor(TestProcessor.Entry.scratch, TestProcessor.segment(limit: 0xff, access: 0x93, flags: 4))
    test.store(Self.hlt, Layout.handler + 13)
    for (entry, isOpen) in [(TestProcessor.Entry.data32, true), (TestProcessor.Entry.scratch, false)] {
      for _ in 0..<3 {
        Self.set(test, .protected32, code, seed: 1)
        test.cpu.pointee.gpr.0 = UInt64(TestProcessor.selector(entry))
        #expect(try EngineEventTests.run(test, engine) == .halt)
        #expect(test.cpu.pointee.rip == (isOpen ? Layout.code + 6 : Layout.handler + 14))
      }
    }
  }
}
