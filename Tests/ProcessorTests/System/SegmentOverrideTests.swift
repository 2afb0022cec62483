import CHost
import Machine
import Testing
import X86

@testable import Processor

/// Segment overrides of branches whose target is in memory.
@Suite(.onBothEngines) struct SegmentOverrideTests {
  typealias Layout = TestProcessor.Layout

  /// CALL and JMP by the word at BP, which is in SS but for a prefix: the last one counts. 3E is DS, as for any other
  /// instruction, though it says NOTRACK where indirect branches are tracked.
  @Test(arguments: [UInt8(0x56), 0x66])
  func indirectBranches(_ modRM: UInt8) throws {
    for (prefixes, segment) in [
      ([], 2), ([0x36], 2), ([0x26], 0), ([0x3e], 3), ([0x36, 0x3e], 3), ([0x3e, 0x36], 2), ([0x3e, 0x26], 0),
    ] as [([UInt8], UInt64)] {
      let test = TestProcessor(.real)
      test.place(prefixes + [0xff, modRM, 0])
      for number in [0, 2, 3] as [UInt64] {
        let base = Layout.data + number << 8
        test.store(UInt16(0x5000 + number << 4), base + 0x10)
        test.store(EngineEventTests.hlt, 0x5000 + number << 4)
        test.processor.setSegment(
          Int(number), SegmentState(base: base, limit: 0xffff, selector: UInt16(base >> 4), attributes: 0x93))
      }
      test.cpu.pointee.gpr.5 = 0x10
      #expect(try EngineEventTests.run(test, EngineUnderTest.make(test.memory)) == .halt)
      #expect(test.cpu.pointee.rip == 0x5001 + segment << 4, "prefixes \(prefixes)")
    }
  }
}
