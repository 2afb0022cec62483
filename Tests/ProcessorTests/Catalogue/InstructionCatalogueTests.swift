import CZydis
import Testing

@testable import Processor

struct InstructionCatalogueTests {
  @Test func add() throws {
    let add = try #require(InstructionCatalogue.describe("ADD"))
    #expect(add.mnemonic == "add" && add.sensitivity == nil)
    #expect(add.flagsRead == [] && add.flagsWritten == ["CF", "PF", "AF", "ZF", "SF", "OF"])
    let wide = try #require(add.forms.first { $0.operands == "r64, m64" })
    #expect(wide.execution == .chainHandler && wide.isInCode64 && !wide.isInCode32 && wide.gate == nil)
    #expect(wide.models == CPUSpecification.modelNames && !wide.isPrivileged)
    #expect(try #require(add.forms.first { $0.operands == "r32, r32" }).isInCode32)
  }

  @Test func systemInstructions() throws {
    let popf = try #require(InstructionCatalogue.describe("popf"))
    #expect(popf.sensitivity?.name == "popf")
    #expect(popf.forms.map(\.family) == ["Processor/FlagsAndInterrupts.swift"])
    #expect(popf.forms.allSatisfy { $0.execution == .semanticFunction })
    let rdmsr = try #require(InstructionCatalogue.describe("rdmsr"))
    #expect(rdmsr.forms.allSatisfy { $0.isPrivileged && $0.gate == "msr" && !$0.models.contains("i486") })
    let move = try #require(InstructionCatalogue.describe("mov"))
    #expect(Set(move.forms.compactMap(\.family)).count >= 3, "general, segment and control registers")
  }

  @Test func vectorInstructions() throws {
    let shuffle = try #require(InstructionCatalogue.describe("pshufb"))
    #expect(shuffle.forms.allSatisfy { $0.gate == "ssse3" && !$0.models.contains("x86-64-v1") })
    if NativeFeatures.host.contains(.ssse3) { #expect(shuffle.forms.allSatisfy { $0.execution == .nativeUnit }) }
    let missing = try #require(InstructionCatalogue.describe("gf2p8mulb"))
    #expect(missing.forms.allSatisfy { $0.execution == .nothing && $0.models.isEmpty })
  }

  @Test func unknownNames() {
    for name in ["", "invalid", "frobnicate", "add ", "ａdd"] { #expect(InstructionCatalogue.describe(name) == nil) }
  }
}
