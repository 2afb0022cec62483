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
    test.place(code)
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

/// STAC and CLAC: what was reached while user pages were allowed is out of reach again.
@Suite struct TranslatedRightsTests {
  typealias Layout = TestProcessor.Layout

  /// `pages` user pages are read and written between STAC and CLAC, each by another instruction, `rounds` times; then the
  /// last is read, which faults, or that of the kernel, which does not.
  @Test(arguments: [1, 3, 20], [false, true]) func rightsComeAndGo(pages: Int, endsInFault: Bool) throws {
    let twins = TwinMachines()
    twins.each { machine in
      machine.cpu.pointee.cr4 |= CR4.smap
      // Pages of the window's table, all user's but one.
      for page in 0..<32 as Range<UInt64> where page != 6 {
        machine.store(0x10_0007 + page << 12, TwinMachines.Window.table + 8 * page)
      }
      // The kernel's own: the first 2 MiB are a user's page, where code and data are.
      machine.store(0xe3 as UInt64, Layout.pageTables + 0x2000)
    }
    // MOV ECX, 5; loop: STAC; for each page MOV RAX, [RBX + page]; MOV [RBX + page + 8], RAX; CLAC;
    // MOV RDX, [RSI]; DEC ECX; JNZ loop; MOV RAX, [RDI]; HLT.
    var code: [UInt8] = [0xb9, 5, 0, 0, 0, 0x0f, 0x01, 0xcb]
    for page in 0..<pages where page != 6 {
      let low = UInt8(page & 15) << 4
      code += [0x48, 0x8b, 0x83, 0, low, UInt8(page >> 4), 0, 0x48, 0x89, 0x83, 8, low, UInt8(page >> 4), 0]
    }
    code += [0x0f, 0x01, 0xca, 0x48, 0x8b, 0x16, 0xff, 0xc9, 0x0f, 0x85]
    let distance = Int32(-(code.count + 4 - 5))
    code += (0..<4).map { UInt8(truncatingIfNeeded: distance >> ($0 * 8)) }
    code += [0x48, 0x8b, 0x07, 0xf4]
    twins.place(code)
    for _ in 0..<3 {
      twins.each { machine in
        machine.cpu.pointee.gpr.3 = TwinMachines.Window.linear
        machine.cpu.pointee.gpr.6 = TwinMachines.Window.linear + 6 << 12
        machine.cpu.pointee.gpr.7 = TwinMachines.Window.linear + (endsInFault ? 0 : 6 << 12)
        machine.cpu.pointee.gpr.4 = Layout.stack
        machine.cpu.pointee.rip = Layout.code
        machine.cpu.pointee.activity = .running
      }
      #expect(try twins.run("\(pages) pages") == .halt)
      #expect((twins.cpu.rip > TwinMachines.handler(0)) == endsInFault)
      #expect((twins.cpu.cr2 == TwinMachines.Window.linear) == endsInFault)
    }
  }
}
