import CHost
import CZydis
import Memory
import Testing
import X86

@testable import Lockstep

@Suite struct UndefinedFlagsTests {
  /// The verdict on flags behind instructions, given as 16-bit code.
  private func verdict(_ flags: UInt64, _ code: [[UInt8]]) throws -> UndefinedFlags.Verdict {
    let memory = try GuestMemory(size: 1 << 20)
    var state = CPUState()
    state.cr0 = CR0.et
    var places: [CodeAddress] = []
    var offset: UInt64 = 0x500
    for instruction in code {
      state.rip = offset
      places.append(CodeAddress(state))
      _ = instruction.withUnsafeBytes { memory.write(GuestPhysicalAddress(offset), from: $0) }
      offset += UInt64(instruction.count)
    }
    return withUnsafePointer(to: state) {
      UndefinedFlags.verdict(on: flags, behind: places, CodeReader(memory: memory, state: $0))
    }
  }

  private static let add: [UInt8] = [0x01, 0xc8]
  private static let mul: [UInt8] = [0xf7, 0xe1]
  private static let and: [UInt8] = [0x21, 0xc8]
  private static let shiftByOne: [UInt8] = [0xd1, 0xe0]
  private static let shiftByThree: [UInt8] = [0xc1, 0xe0, 3]
  private static let shiftByCL: [UInt8] = [0xd3, 0xe0]
  private static let move: [UInt8] = [0x89, 0xc8]
  private static let repeatedCompare: [UInt8] = [0xf3, 0xa6]

  @Test func oneInstruction() throws {
    #expect(try verdict(RFLAGS.zf, [Self.add]) == .defined)
    #expect(try verdict(RFLAGS.zf, [Self.mul]) == .undefined(ZYDIS_MNEMONIC_MUL))
    #expect(try verdict(RFLAGS.cf, [Self.mul]) == .defined)
    #expect(try verdict(RFLAGS.zf | RFLAGS.cf, [Self.mul]) == .defined)
    #expect(try verdict(RFLAGS.af, [Self.and]) == .undefined(ZYDIS_MNEMONIC_AND))
    #expect(try verdict(RFLAGS.of, [Self.and]) == .defined)
    #expect(try verdict(RFLAGS.of, [Self.shiftByOne]) == .defined)
    #expect(try verdict(RFLAGS.af, [Self.shiftByOne]) == .undefined(ZYDIS_MNEMONIC_SHL))
    #expect(try verdict(RFLAGS.of, [Self.shiftByThree]) == .undefined(ZYDIS_MNEMONIC_SHL))
    #expect(try verdict(RFLAGS.zf, [Self.move]) == .unknown)
  }

  @Test func whatWroteLastCounts() throws {
    #expect(try verdict(RFLAGS.zf, [Self.mul, Self.move]) == .undefined(ZYDIS_MNEMONIC_MUL))
    #expect(try verdict(RFLAGS.zf, [Self.mul, Self.add]) == .defined)
    #expect(try verdict(RFLAGS.zf, [Self.add, Self.mul]) == .undefined(ZYDIS_MNEMONIC_MUL))
    // A count of zero leaves what was before.
    #expect(try verdict(RFLAGS.zf, [Self.mul, Self.shiftByCL]) == .undefined(ZYDIS_MNEMONIC_MUL))
    #expect(try verdict(RFLAGS.zf, [Self.add, Self.shiftByCL]) == .defined)
    #expect(try verdict(RFLAGS.zf, [Self.mul, Self.repeatedCompare]) == .undefined(ZYDIS_MNEMONIC_MUL))
  }

  @Test func pagingIsFollowed() throws {
    let memory = try GuestMemory(size: 1 << 20)
    func put(_ value: UInt64, _ address: UInt64) { _ = memory.store(value, at: GuestPhysicalAddress(address)) }
    var state = CPUState()
    state.cr0 = CR0.pe | CR0.pg
    state.cr3 = 0x1000
    func physical(_ linear: UInt64) -> UInt64? {
      withUnsafePointer(to: state) { CodeReader(memory: memory, state: $0).physical(linear) }
    }
    // Two levels: a table, and a page of 4 MiB.
    _ = memory.store(0x2001 as UInt32, at: GuestPhysicalAddress(0x1000))
    _ = memory.store(0x0080_0081 as UInt32, at: GuestPhysicalAddress(0x1004))
    _ = memory.store(0x9001 as UInt32, at: GuestPhysicalAddress(0x2000 + 4 * 5))
    state.cr4 = CR4.pse
    #expect(physical(0x5123) == 0x9123)
    #expect(physical(0x40_1234) == 0x80_1234)
    #expect(physical(0x6000) == nil)
    // PAE, from the pointers in the processor.
    state.cr4 = CR4.pae
    state.pdpte.3 = 0x3001
    put(0x4001, 0x3000)
    put(0x8000_0000_0000_a001, 0x4008)
    put(0x60_0081, 0x3008)
    #expect(physical(0xc000_1fff) == 0xafff)
    #expect(physical(0xc020_0001) == 0x60_0001)
    #expect(physical(0x1000) == nil)
    // Four levels.
    state.efer = EFER.lma
    state.cr3 = 0x5000
    put(0x6001, 0x5000 + 8 * 511)
    put(0x7001, 0x6000)
    put(0x3001, 0x7000)
    put(0xb001, 0x3000 + 8 * 3)
    put(0x4000_0081, 0x6008)
    #expect(physical(0xffff_ff80_0000_3456) == 0xb456)
    #expect(physical(0xffff_ff80_4012_3456) == 0x4012_3456)
    #expect(physical(0) == nil)
  }
}
