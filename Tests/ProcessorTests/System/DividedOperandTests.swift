import CHost
import Machine
import Testing
import X86

@testable import Processor

/// Memory operands of several parts at the end of what the address size reaches. This is what an AMD Zen 4 does with the
/// same code in 16-bit segments of both limits, but for LGDT, LIDT, SGDT and SIDT, which a process could not ask it.
@Suite(.onBothEngines) struct DividedOperandTests {
  typealias Layout = TestProcessor.Layout

  /// An instruction with its operand at [BX].
  struct Row: Sendable {
    let code: [UInt8]
    let offset: UInt64
    /// Where the operand's parts begin.
    let parts: [Int]
    let operand: [UInt8]
    let isStore: Bool

    init(_ code: [UInt8], _ offset: UInt64, _ parts: [Int], loads operand: [UInt8]) {
      (self.code, self.offset, self.parts, self.operand, isStore) = (code, offset, parts, operand, false)
    }

    init(_ code: [UInt8], _ offset: UInt64, _ parts: [Int], stores operand: [UInt8]) {
      (self.code, self.offset, self.parts, self.operand, isStore) = (code, offset, parts, operand, true)
    }

    /// Where the operand's byte is in the segment.
    func place(_ index: Int) -> UInt64 {
      let part = parts.last { $0 <= index } ?? 0
      return (offset + UInt64(part)) & 0xffff + UInt64(index - part)
    }

    /// Whether some part goes on behind FFFFH.
    var isCut: Bool { operand.indices.contains { place($0) > 0xffff } }
  }

  /// Not on a page's boundary, so that nothing but the offset decides.
  private static let base = Layout.data + 0x30
  private static let hlt = EngineEventTests.hlt

  /// Code that ends with HLT. Every exception ends in a handler of its own.
  private static func prepare(_ mode: TestProcessor.Mode, _ code: [UInt8]) -> TestProcessor {
    let test = TestProcessor(mode)
    test.place(code + [hlt])
    test.place([UInt8](repeating: hlt, count: 256), at: Layout.handler)
    return test
  }

  /// Runs a row's code behind `setUp` in real-address mode, with DS of this limit.
  private static func run(_ row: Row, limit: UInt32, setUp: [UInt8] = [], then: [UInt8] = []) throws -> TestProcessor {
    let test = prepare(.real, setUp + row.code + then)
    test.place([UInt8](repeating: 0xee, count: 0x1_0200), at: base)
    if !row.isStore {
      for (index, byte) in row.operand.enumerated() { test.store(byte, base + row.place(index)) }
    }
    test.processor.setSegment(
      3, SegmentState(base: base, limit: limit, selector: UInt16(base >> 4), attributes: 0x93))
    test.cpu.pointee.gpr.3 = row.offset
    #expect(try EngineEventTests.run(test, EngineUnderTest.make(test.memory)) == .halt)
    return test
  }

  /// The exception that a run ended with, if any.
  private static func vector(_ test: TestProcessor) -> Int? {
    let rip = test.cpu.pointee.rip
    return rip > Layout.handler && rip <= Layout.handler + 256 && test.cpu.pointee.segments.1.selector == 0
      ? Int(rip - Layout.handler - 1) : nil
  }

  /// What `check` looks at after a run with each limit; a part that is cut faults with 64 KiB.
  private static func expect(
    _ row: Row, setUp: [UInt8] = [], then: [UInt8] = [], _ check: (TestProcessor) -> Void = { _ in }
  ) throws {
    for limit in [0xffff, 0xffff_ffff] as [UInt32] {
      let test = try run(row, limit: limit, setUp: setUp, then: then)
      let isRefused = limit == 0xffff && row.isCut
      #expect(vector(test) == (isRefused ? 13 : nil), "\(row) limit \(limit)")
      if row.isStore {
        var expected = [UInt8](repeating: 0xee, count: 0x1_0200)
        if !isRefused { for (index, byte) in row.operand.enumerated() { expected[Int(row.place(index))] = byte } }
        let differing = expected.indices.filter { test.load(base + UInt64($0), as: UInt8.self) != expected[$0] }
        #expect(differing.isEmpty, "\(row) limit \(limit)")
      }
      if !isRefused { check(test) }
    }
  }

  @Test(arguments: [0xfff9, 0xfffb, 0xfffc, 0xfffd, 0xfffe, 0xffff] as [UInt64])
  func segmentLoads(_ offset: UInt64) throws {
    let short: [UInt8] = [0x34, 0x12, 0x00, 0x30]
    let long: [UInt8] = [0x78, 0x56, 0x34, 0x12, 0x00, 0x30]
    for (opcode, number) in [([0xc4], 0), ([0x0f, 0xb2], 2), ([0xc5], 3), ([0x0f, 0xb4], 4), ([0x0f, 0xb5], 5)]
      as [([UInt8], Int)]
    {
      try Self.expect(Row(opcode + [0x07], offset, [0, 2], loads: short)) { test in
        #expect(test.cpu.pointee.gpr.0 == 0x1234)
        #expect(test.processor.segment(number).base == 0x3_0000)
      }
      try Self.expect(Row([0x66] + opcode + [0x07], offset, [0, 4], loads: long)) { test in
        #expect(test.cpu.pointee.gpr.0 == 0x1234_5678)
        #expect(test.processor.segment(number).base == 0x3_0000)
      }
    }
  }

  @Test(arguments: [0xfffa, 0xfffc, 0xfffd, 0xfffe, 0xffff] as [UInt64])
  func branches(_ offset: UInt64) throws {
    for modRM in [0x2f, 0x1f] as [UInt8] {
      try Self.expect(Row([0xff, modRM], offset, [0, 2], loads: [0x00, 0x01, 0x50, 0x04]), setUp: Self.target) { test in
        #expect(test.cpu.pointee.segments.1.selector == 0x450)
      }
      try Self.expect(
        Row([0x66, 0xff, modRM], offset, [0, 4], loads: [0x00, 0x01, 0, 0, 0x50, 0x04]), setUp: Self.target
      ) { test in
        #expect(test.cpu.pointee.segments.1.selector == 0x450)
      }
    }
  }

  /// MOV BYTE [CS:4600H], F4H: HLT where the branches go to.
  private static let target: [UInt8] = [0x2e, 0xc6, 0x06, 0x00, 0x46, hlt]

  @Test(arguments: [0xfffa, 0xfffc, 0xfffd, 0xfffe, 0xffff] as [UInt64])
  func bounds(_ offset: UInt64) throws {
    // MOV AX, 5; the second bound decides.
    let setUp: [UInt8] = [0xb8, 5, 0]
    try Self.expect(Row([0x62, 0x07], offset, [0, 2], loads: [3, 0, 9, 0]), setUp: setUp)
    try Self.expect(Row([0x66, 0x62, 0x07], offset, [0, 4], loads: [3, 0, 0, 0, 9, 0, 0, 0]), setUp: setUp)
    let outside = Row([0x62, 0x07], 0xfffe, [0, 2], loads: [3, 0, 4, 0])
    #expect(Self.vector(try Self.run(outside, limit: 0xffff, setUp: setUp)) == 5)
  }

  @Test(arguments: [0xfffa, 0xfffb, 0xfffc, 0xfffd, 0xfffe, 0xffff] as [UInt64])
  func tableRegisters(_ offset: UInt64) throws {
    let table: [UInt8] = [0x34, 0x12, 0x10, 0x32, 0x05, 0x00]
    try Self.expect(Row([0x0f, 0x01, 0x17], offset, [0, 2], loads: table)) { test in
      #expect(test.cpu.pointee.gdtr.base == 0x5_3210)
      #expect(test.cpu.pointee.gdtr.limit == 0x1234)
    }
    try Self.expect(Row([0x0f, 0x01, 0x1f], offset, [0, 2], loads: table)) { test in
      #expect(test.cpu.pointee.idtr.base == 0x5_3210)
      #expect(test.cpu.pointee.idtr.limit == 0x1234)
    }
    try Self.expect(Row([0x0f, 0x01, 0x07], offset, [0, 2], stores: [0xff, 0x01, 0, 0, 1, 0]))
    try Self.expect(Row([0x0f, 0x01, 0x0f], offset, [0, 2], stores: [0xff, 0x03, 0, 0, 0, 0]))
  }

  @Test(arguments: [0xfff6, 0xfff7, 0xfff8, 0xfff9, 0xfffa, 0xffff] as [UInt64])
  func extendedPrecision(_ offset: UInt64) throws {
    let number: [UInt8] = [0, 0, 0, 0, 0, 0, 0, 0xc0, 0xff, 0x3f]
    // FNINIT; FLD TBYTE [BX]; FSTP QWORD [100H].
    try Self.expect(
      Row([0xdb, 0x2f], offset, [0, 8], loads: number), setUp: [0xdb, 0xe3], then: [0xdd, 0x1e, 0, 1]
    ) { test in
      #expect(test.load(Self.base + 0x100, as: Double.self) == 1.5)
    }
    // FNINIT; FLD1; FSTP TBYTE [BX], FBSTP [BX].
    let setUp: [UInt8] = [0xdb, 0xe3, 0xd9, 0xe8]
    try Self.expect(
      Row([0xdb, 0x3f], offset, [0, 8], stores: [0, 0, 0, 0, 0, 0, 0, 0x80, 0xff, 0x3f]), setUp: setUp)
    try Self.expect(Row([0xdf, 0x37], offset, [0, 8], stores: [1, 0, 0, 0, 0, 0, 0, 0, 0, 0]), setUp: setUp)
  }

  @Test(arguments: [0xffe2, 0xffe4, 0xfff2, 0xfff3, 0xfff4, 0xfff8, 0xfffb, 0xfffc, 0xfffe, 0xffff] as [UInt64])
  func environments(_ offset: UInt64) throws {
    for (prefix, size) in [([], 2), ([0x66], 4)] as [([UInt8], Int)] {
      let parts = (0..<7).map { $0 * size }
      var image = [UInt8](repeating: 0, count: 7 * size)
      for (field, value) in [0x037f, 0, 0xffff, 0x1111, 0x2000, 0x3333, 0x4000].enumerated() {
        image[field * size] = UInt8(value & 0xff)
        image[field * size + 1] = UInt8(value >> 8)
      }
      // FNINIT; FLDENV [BX]; FNSTENV [200H].
      try Self.expect(
        Row(prefix + [0xd9, 0x27], offset, parts, loads: image), setUp: [0xdb, 0xe3], then: [0xd9, 0x36, 0, 2]
      ) { test in
        let stored = (0..<14).map { test.load(Self.base + 0x200 + UInt64($0), as: UInt8.self) }
        for field in [0, 1, 2, 3, 5] {
          #expect(stored[2 * field...2 * field + 1] == image[field * size...field * size + 1], "\(field)")
        }
      }
      var initial = [UInt8](repeating: 0, count: 7 * size)
      initial.replaceSubrange(0..<2, with: [0x7f, 0x03])
      initial.replaceSubrange(2 * size..<2 * size + 2, with: [0xff, 0xff])
      // Of fields that hold 16 bits the upper halves are ones.
      if size == 4 {
        for field in [0, 1, 2, 3, 5] { initial.replaceSubrange(4 * field + 2..<4 * field + 4, with: [0xff, 0xff]) }
      }
      try Self.expect(Row(prefix + [0xd9, 0x37], offset, parts, stores: initial), setUp: [0xdb, 0xe3])
    }
  }

  @Test(arguments: [0xffa2, 0xffa3, 0xffa4, 0xffa5, 0xffae, 0xfffe] as [UInt64])
  func savedUnits(_ offset: UInt64) throws {
    let parts: [Int] =
      [0, 2, 4, 6, 8, 10, 12] + (0..<8).flatMap { (index: Int) -> [Int] in [14 + 10 * index, 22 + 10 * index] }
    let one: [UInt8] = [0, 0, 0, 0, 0, 0, 0, 0x80, 0xff, 0x3f]
    let image: [UInt8] =
      [0x7f, 0x03, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0] + [[UInt8]](repeating: one, count: 8).joined()
    // FNINIT; FLD1 eight times. FRSTOR; FSTP QWORD [100H] eight times.
    let fill: [UInt8] = [0xdb, 0xe3] + [[UInt8]](repeating: [0xd9, 0xe8], count: 8).joined()
    let stores: [UInt8] = (0..<8).flatMap { (index: UInt8) -> [UInt8] in [0xdd, 0x1e, 8 * index, 1] }
    try Self.expect(Row([0xdd, 0x27], offset, parts, loads: image), then: stores) { test in
      for index in 0..<8 { #expect(test.load(Self.base + 0x100 + UInt64(8 * index), as: Double.self) == 1) }
    }
    // FLD1 has left its address and its opcode in the environment.
    let row = Row([0xdd, 0x37], offset, parts, stores: image)
    for limit in [0xffff, 0xffff_ffff] as [UInt32] {
      let test = try Self.run(row, limit: limit, setUp: fill)
      let isRefused = limit == 0xffff && row.isCut
      #expect(Self.vector(test) == (isRefused ? 13 : nil))
      for register in 0..<8 {
        let bytes = (14 + 10 * register..<24 + 10 * register).map {
          test.load(Self.base + row.place($0), as: UInt8.self)
        }
        #expect(bytes == (isRefused ? [UInt8](repeating: 0xee, count: 10) : one), "\(register)")
      }
    }
  }

  /// Whole paragraphs, which wrap together.
  @Test(arguments: [0xfe00, 0xfe10, 0xff60, 0xfff0] as [UInt64])
  func fastSave(_ offset: UInt64) throws {
    // FNINIT; FLD1; FXSAVE [BX]; FNINIT; FXRSTOR [BX]; FSTP QWORD [400H].
    let row = Row([0x0f, 0xae, 0x07, 0xdb, 0xe3, 0x0f, 0xae, 0x0f], offset, [0], loads: [])
    let test = try Self.run(
      row, limit: 0xffff, setUp: [0xdb, 0xe3, 0xd9, 0xe8], then: [0xdd, 0x1e, 0, 4])
    #expect(Self.vector(test) == nil)
    #expect(test.load(Self.base + (offset + 24) & 0xffff, as: UInt32.self) == 0x1f80)
    #expect(test.load(Self.base + 0x400, as: Double.self) == 1)
    #expect(test.load(Self.base + 0x1_0000, as: UInt64.self) == 0xeeee_eeee_eeee_eeee)
  }

  /// With 32-bit addresses in 64-bit code: the second part is at the segment's base, far from the first.
  @Test func longMode() throws {
    for (offset, wraps) in [(0xffff_fff6, false), (0xffff_fff7, false), (0xffff_fff8, true)] as [(UInt64, Bool)] {
      // FNINIT; FLD1; FSTP TBYTE [FS:EBX].
      let test = Self.prepare(.long64, [0xdb, 0xe3, 0xd9, 0xe8, 0x67, 0x64, 0xdb, 0x3b])
      let base = Layout.data + 0x30 &- 0x1_0000_0000
      var segment = test.processor.segment(.fs)
      segment.base = base
      test.processor.setSegment(SegmentRegister.fs.rawValue, segment)
      test.cpu.pointee.gpr.3 = offset
      #expect(try EngineEventTests.run(test, EngineUnderTest.make(test.memory)) == .halt)
      #expect(test.cpu.pointee.rip == (wraps ? Layout.handler + 15 : Layout.code + 9))
      if wraps {
        #expect(test.cpu.pointee.cr2 == base &+ (offset + 8) & 0xffff_ffff)
      } else {
        #expect(test.load(base &+ offset &+ 7, as: UInt8.self) == 0x80)
      }
    }
  }

  /// The parts are read in their order: of two pages that are not there the first is what CR2 names.
  @Test(arguments: [[0x0f, 0xb2, 0x03], [0xff, 0x2b], [0xff, 0x1b], [0xdb, 0x2b]] as [[UInt8]])
  func order(_ code: [UInt8]) throws {
    let test = Self.prepare(.long64, [0xdb, 0xe3] + code)
    let last = code[0] == 0xdb ? 8 : 4 as UInt64
    test.cpu.pointee.gpr.3 = 0x7f_ffff_f000 - last
    #expect(try EngineEventTests.run(test, EngineUnderTest.make(test.memory)) == .halt)
    #expect(test.cpu.pointee.rip == Layout.handler + 15)
    #expect(test.cpu.pointee.cr2 == test.cpu.pointee.gpr.3)
  }
}
