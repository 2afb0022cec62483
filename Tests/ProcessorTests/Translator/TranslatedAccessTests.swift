import CHost
import Machine
import Testing
import X86

@testable import Processor

/// Accesses that share slots: what one of them was checked for says nothing of another. Where it did, the host's memory
/// would be read.
struct TranslatedAccessTests {
  private typealias Layout = TestProcessor.Layout
  /// All memory is here too.
  private static let alias: UInt64 = 0xffff_ff80_0000_0000

  private func run(_ code: [UInt8], _ prepare: (UnsafeMutablePointer<CPUState>) -> Void) throws -> TestProcessor {
    let test = TestProcessor(.long64)
    test.store(Layout.pageTables + 0x1000 | 7, Layout.pageTables + 511 * 8)
    test.store(0x1111 as UInt64, Layout.data)
    test.store(0x2222 as UInt64, Layout.data + 0x1000)
    for (index, byte) in code.enumerated() { test.store(byte, Layout.code + UInt64(index)) }
    prepare(test.cpu)
    let engine = SoftwareEngine(memory: test.memory, model: CPUModel(), translation: .eager)
    #expect(try engine.run(&test.cpu.pointee, budget: 100) == .halt)
    #expect(engine.translationStatistics?.blockCount ?? 0 > 0)
    return test
  }

  /// MOV RDX, [RAX + 2000H]; MOV RSI, [R8 + 2000H]; HLT.
  @Test func distantDisplacementsOffTwoBases() throws {
    let test = try run([0x48, 0x8b, 0x90, 0, 0x20, 0, 0, 0x49, 0x8b, 0xb0, 0, 0x20, 0, 0, 0xf4]) { cpu in
      cpu.pointee.gpr.0 = Layout.data - 0x2000
      cpu.pointee.gpr.8 = Self.alias + Layout.data - 0x1000
    }
    #expect(test.cpu.pointee.gpr.2 == 0x1111 && test.cpu.pointee.gpr.6 == 0x2222)
  }

  /// MOV RAX, [RBX]; MOV ECX, [EBX]; MOV RDX, [RBX]; HLT.
  @Test func baseOfTwoSizes() throws {
    let test = try run([0x48, 0x8b, 0x03, 0x67, 0x8b, 0x0b, 0x48, 0x8b, 0x13, 0xf4]) { cpu in
      cpu.pointee.gpr.3 = Self.alias + Layout.data
    }
    #expect(test.cpu.pointee.gpr.0 == 0x1111 && test.cpu.pointee.gpr.1 == 0x1111 && test.cpu.pointee.gpr.2 == 0x1111)
  }
}
