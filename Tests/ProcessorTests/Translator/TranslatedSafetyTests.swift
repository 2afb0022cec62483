import CHost
import Machine
import Testing
import X86

@testable import Processor

/// Sequences that could lead translated code to the wrong page of the host, or lose flags on the way.
struct TranslatedSafetyTests {
  typealias Layout = TestProcessor.Layout
  typealias Window = TwinMachines.Window

  /// Runs `code` with RBX and RAX in the window, twice, and ends with a comparison of all memory.
  private static func run(_ code: [UInt8], rbx: UInt64, rax: UInt64 = 0, _ name: String) throws {
    let twins = TwinMachines()
    let canaries = twins.machines.map { HostCanaries(around: $0.memory) }
    twins.each { machine in
      for offset in stride(from: 0, to: 0x1_0000, by: 8) {
        machine.store(UInt64(offset) &* 0x9e37_79b9_7f4a_7c15, Window.physical + UInt64(offset))
      }
    }
    twins.place(code + [TwinMachines.hlt])
    for _ in 0..<2 {
      twins.restart()
      for number in 0..<16 { twins.set(number, UInt64(number)) }
      twins.set(3, rbx)
      twins.set(0, rax)
      twins.set(4, Layout.stack)
      #expect(try twins.run(name) == .halt)
    }
    for canary in canaries { #expect(canary.areUntouched) }
  }

  /// Far displacements off different registers share slots: what was checked for one is not good for the other.
  @Test(arguments: [0x8b, 0x89] as [UInt8]) func sharedSlots(_ opcode: UInt8) throws {
    // MOV ECX, [RBX + 1000H]; SUB RBX, 1000H; MOV EDX, [RAX + 2000H], or stores.
    try Self.run(
      [opcode, 0x8b, 0, 0x10, 0, 0, 0x48, 0x81, 0xeb, 0, 0x10, 0, 0, opcode, 0x90, 0, 0x20, 0, 0],
      rbx: Window.linear, rax: Window.linear + 0x2000, "shared slots")
  }

  /// A 32-bit address off a register between two accesses that were checked together.
  @Test(arguments: [0x8b, 0x89] as [UInt8]) func narrowAddressInAGroup(_ opcode: UInt8) throws {
    // MOV ECX, [RBX]; MOV EDX, [EBX + 2000H]; MOV ESI, [RBX + 8], or stores.
    try Self.run(
      [opcode, 0x0b, 0x67, opcode, 0x93, 0, 0x20, 0, 0, opcode, 0x73, 8], rbx: Window.linear, "narrow address")
  }

  /// Flags that an instruction between two accesses of a group has set.
  @Test func flagsWithinGroups() throws {
    // PUSH RAX; CMP ECX, EDX; PUSHFQ; POP RSI; POP RDI.
    try Self.run([0x50, 0x39, 0xd1, 0x9c, 0x5e, 0x5f], rbx: 0, "PUSHFQ")
    // CALL f; SETB CL; JMP end; f: PUSH 1; POP RDI; CMP ECX, EDX; RET; end:
    try Self.run(
      [0xe8, 5, 0, 0, 0, 0x0f, 0x92, 0xc1, 0xeb, 6, 0x6a, 1, 0x5f, 0x39, 0xd1, 0xc3], rbx: 0, "RET")
    // MOVAPS XMM0, [RBX]; CMP ECX, EDX; MOVAPS XMM1, [RBX + 16]; SETB CL.
    try Self.run(
      [0x0f, 0x28, 0x03, 0x39, 0xd1, 0x0f, 0x28, 0x4b, 0x10, 0x0f, 0x92, 0xc1], rbx: Window.linear, "MOVAPS")
    // MOVAPS XMM0, [RBX]; CMP ECX, EDX; MOVAPS XMM1, [RBX + 20]: #GP with these flags.
    try Self.run(
      [0x0f, 0x28, 0x03, 0x39, 0xd1, 0x0f, 0x28, 0x4b, 0x14], rbx: Window.linear, "misaligned MOVAPS")
  }

  /// VEX.W means nothing outside 64-bit mode where it would widen a general register: VMOVD writes four bytes.
  @Test func wideVEXIn32BitCode() throws {
    let twins = TwinMachines(.protected32)
    twins.each {
      $0.cpu.pointee.cr4 |= CR4.osxsave
      $0.cpu.pointee.xcr0 = 7
      $0.store(~0 as UInt64, Layout.data)
      $0.store(~0 as UInt64, Layout.data + 8)
    }
    // VMOVD [EBX], XMM0 with W; VMOVD XMM1, [EBX + 4] with W; VMOVD EDX, XMM1 with W; ANDN ECX, EDX, [EBX] with W.
    twins.place([
      0xc4, 0xe1, 0xf9, 0x7e, 0x03, 0xc4, 0xe1, 0xf9, 0x6e, 0x4b, 4, 0xc4, 0xe1, 0xf9, 0x7e, 0xca, 0xc4, 0xe2, 0xe8,
      0xf2,
      0x0b, TwinMachines.hlt,
    ])
    for _ in 0..<2 {
      twins.restart()
      twins.set(3, Layout.data)
      twins.set(4, Layout.stack)
      #expect(try twins.run("VEX.W") == .halt)
      #expect(twins.machines[1].load(Layout.data + 4, as: UInt32.self) == ~0)
    }
  }

  /// The same with 16 bits.
  @Test func shortDivisions() throws {
    // MOV WORD [RBX], CX; XOR DX, DX; DIV WORD [RBX]; CMP ECX, ECX; CWD; IDIV CX; CMP ECX, ECX; CWD; IDIV WORD [RBX].
    let twins = TwinMachines()
    twins.place([
      0x66, 0x89, 0x0b, 0x66, 0x31, 0xd2, 0x66, 0xf7, 0x33, 0x39, 0xc9, 0x66, 0x99, 0x66, 0xf7, 0xf9, 0x39, 0xc9, 0x66,
      0x99, 0x66, 0xf7, 0x3b, TwinMachines.hlt,
    ])
    for divisor in [3, 0, 0xffff, 7, 0x8000, 0x1_0000, 0x1_0005] as [UInt64] {
      for dividend in [0x8000, 0x7fff, ~0, 0xabcd_ef01_2345] as [UInt64] {
        twins.restart()
        twins.set(3, Window.linear)
        twins.set(1, divisor)
        twins.set(0, dividend)
        twins.set(4, Layout.stack)
        #expect(try twins.run(undefined: RFLAGS.arithmetic, "DIV of \(dividend) by \(divisor)") == .halt)
      }
    }
  }

  /// A divisor in memory; what would trap on the host does not get there.
  @Test func divisions() throws {
    // MOV DWORD [RBX], ECX; XOR EDX, EDX; DIV DWORD [RBX]; and with 0: #DE.
    let twins = TwinMachines()
    twins.place([0x89, 0x0b, 0x31, 0xd2, 0xf7, 0x33, 0x99, 0xf7, 0x3b, TwinMachines.hlt])
    for divisor in [3, 0, ~0, 7, 0x8000_0000] as [UInt64] {
      twins.restart()
      twins.set(3, Window.linear)
      twins.set(1, divisor)
      twins.set(0, 0x8000_0000)
      twins.set(4, Layout.stack)
      let undefined = RFLAGS.arithmetic
      // The image of RFLAGS on the handler's stack has undefined flags too.
      twins.each { $0.store(0 as UInt64, Layout.interruptStack(1) - 24) }
      #expect(try twins.run(undefined: undefined, "DIV by \(divisor)") == .halt)
    }
  }

  /// An access that a later check of its instruction refuses leaves no mark in the page tables.
  @Test func marksOfRefusedAccesses() throws {
    let missing = Window.linear + Window.missing * 0x1000
    // MOV RSP, RBX; PUSH QWORD [RAX]: the read faults, and the stack's page stays clean.
    try Self.run([0x48, 0x89, 0xdc, 0xff, 0x30], rbx: Window.linear + 0x800, rax: missing, "PUSH of what is missing")
    // MOVAPS XMM0, [RBX + 4], [RBX + RAX], and a store.
    try Self.run([0x0f, 0x28, 0x43, 4], rbx: Window.linear, "MOVAPS")
    try Self.run([0x0f, 0x28, 0x04, 0x03], rbx: Window.linear, rax: 8, "MOVAPS with an index")
    try Self.run([0x0f, 0x29, 0x03], rbx: Window.linear + 8, "MOVAPS to memory")
  }

  /// Where what one register points to lies across a page boundary, accesses are not checked together for ever.
  @Test(arguments: [0x8b, 0x89] as [UInt8]) func groupsAcrossPages(_ opcode: UInt8) throws {
    // MOV RSI, 40; loop: MOV ECX, [RBX - 16]; MOV EDX, [RBX + 16]; ADD RBX, 1; DEC RSI; JNZ loop, or stores.
    try Self.run(
      [
        0xbe, 40, 0, 0, 0, opcode, 0x4b, 0xf0, opcode, 0x53, 0x10, 0x48, 0x83, 0xc3, 1, 0x48, 0xff, 0xce, 0x75, 0xf1,
      ], rbx: Window.linear + 0x1000 - 20, "groups across pages")
  }
}
