import CHost
import Machine
import Testing
import X86

@testable import Processor

/// INVLPG of a page larger than 4 KiB: nothing of it is left, whichever of its addresses is named (SDM vol. 3A, 4.10.4.1).
@Suite struct LargePageTests {
  typealias Layout = TestProcessor.Layout

  /// A second view of the first 2 MiB, by one large page, which the program replaces by a page table.
  private static let view: UInt64 = 0x20_0000
  private static let table: UInt64 = 0x2_8000
  private static let others: UInt64 = 0x10_0000

  private static func prepare(_ code: [UInt8]) -> TestProcessor {
    let test = TestProcessor(.long64)
    test.store(0x83 as UInt64, Layout.pageTables + 0x2008)
    for page in 0..<2 as Range<UInt64> {
      test.store((others + page << 12) | 3, table + (Layout.data >> 12 + page) * 8)
      test.store(page + 1, Layout.data + page << 12)
      test.store(page + 3, others + page << 12)
    }
    test.place(code)
    test.cpu.pointee.gpr.3 = view + Layout.data
    test.cpu.pointee.gpr.6 = view + Layout.data + 0x1000
    test.cpu.pointee.gpr.7 = Layout.pageTables + 0x2008
    test.cpu.pointee.gpr.2 = table | 3
    return test
  }

  @Test(arguments: [nil, TranslationOptions.eager]) func dataOfItAreForgotten(translation: TranslationOptions?) throws {
    // MOV RAX, [RBX]; MOV RCX, [RSI]; MOV [RDI], RDX; INVLPG [RBX]; MOV R8, [RBX]; MOV R9, [RSI]; HLT.
    let test = Self.prepare([
      0x48, 0x8b, 0x03, 0x48, 0x8b, 0x0e, 0x48, 0x89, 0x17, 0x0f, 0x01, 0x3b, 0x4c, 0x8b, 0x03, 0x4c, 0x8b, 0x0e, 0xf4,
    ])
    let engine = SoftwareEngine(memory: test.memory, model: CPUModel(), translation: translation)
    #expect(try EngineEventTests.run(test, engine) == .halt)
    let found = test.cpu.pointee.gpr
    #expect((found.0, found.1) == (1, 2))
    #expect((found.8, found.9) == (3, 4))
  }

  @Test(arguments: [nil, TranslationOptions.eager]) func codeOnItIsForgotten(translation: TranslationOptions?) throws {
    // CALL RSI; MOV R8D, EAX; MOV [RDI], RDX; INVLPG [RBX]; CALL RSI; HLT.
    let test = Self.prepare([
      0xff, 0xd6, 0x41, 0x89, 0xc0, 0x48, 0x89, 0x17, 0x0f, 0x01, 0x3b, 0xff, 0xd6, 0xf4,
    ])
    // MOV EAX, 1 or 2; RET.
    for (value, place) in [(1 as UInt8, Layout.data + 0x1000), (2, Self.others + 0x1000)] {
      test.place([0xb8, value, 0, 0, 0, 0xc3], at: place)
    }
    let engine = SoftwareEngine(memory: test.memory, model: CPUModel(), translation: translation)
    #expect(try EngineEventTests.run(test, engine) == .halt)
    #expect(test.cpu.pointee.gpr.8 == 1)
    #expect(test.cpu.pointee.gpr.0 == 2)
  }

  @Test func regionsAreTold() {
    let medium = AddressClasses<MediumRegion>()
    let huge = AddressClasses<HugeRegion>()
    let others = AddressClasses<MediumRegion>()
    defer {
      medium.deallocate()
      huge.deallocate()
      others.deallocate()
    }
    #expect(!medium.mayHave(0x1234_5000) && !huge.mayHave(0x1234_5000))
    medium.insert(0xffff_8880_0020_0000)
    #expect(medium.mayHave(0xffff_8880_003f_f000))
    #expect(!medium.mayHave(0x7fff_0000_0000))
    huge.insert(0xffff_8880_4000_0000)
    #expect(huge.mayHave(0xffff_8880_7fff_f000) && !huge.mayHave(0xffff_8880_0020_0000))
    others.formUnion(medium)
    #expect(others.mayHave(0xffff_8880_0020_0000))
    others.insert(0x7fff_0000_0000)
    others.remove(0xffff_8880_0020_0000)
    #expect(!others.mayHave(0xffff_8880_0020_0000) && others.mayHave(0x7fff_0000_0000))
    others.removeAll()
    #expect(!others.mayHave(0x7fff_0000_0000))
    #expect(medium.mayHave(0xffff_8880_0020_0000))
  }
}
