import CHost
import Machine
import Testing
import X86

@testable import Processor

/// Instructions whose translation is more than the instruction itself, beside the interpreter.
struct TranslatedInstructionTests {
  typealias Layout = TestProcessor.Layout
  private static let hlt = TwinMachines.hlt

  /// BT, BTS, BTR and BTC of a bit string, near and far from its beginning, over the end of a page, and beyond all memory.
  @Test(arguments: [0xa3, 0xab, 0xb3, 0xbb] as [UInt8], [4, 8]) func bitStrings(opcode: UInt8, size: Int) throws {
    let twins = TwinMachines(.long64)
    let canaries = twins.machines.map { HostCanaries(around: $0.memory) }
    // XOR EDX, EDX; the instruction on [RBX + 8] by RCX, locked where it writes; SETC DL; the same on [RBX + RSI * 2] by
    // R9; SBB EDI, EDI; HLT.
    let lock: [UInt8] = opcode == 0xa3 ? [] : [0xf0]
    let wide: UInt8 = size == 8 ? 8 : 0
    twins.place(
      [0x31, 0xd2] + lock + [0x40 | wide, 0x0f, opcode, 0x4b, 8, 0x0f, 0x92, 0xc2] + lock
        + [0x44 | wide, 0x0f, opcode, 0x0c, 0x73, 0x19, 0xff, Self.hlt])
    twins.each {
      for place in 0..<1024 as Range<UInt64> { $0.store(place &* 0x9e37_79b9_7f4a_7c15, Layout.data + place * 8) }
    }
    let offsets: [Int64] = [
      0, 1, 31, 32, 63, 64, 127, -1, -32, -33, -64, -65, 4096 * 8, -4096 * 8, 12_345, -12_345, 1 << 31, -1 << 31,
      1 << 40, .max, .min, 0x7fff_ffff_ffff,
    ]
    for start in [Layout.data + 0x800, Layout.data + 0xff8 - 8, Layout.data + 0x1000 - 9, 0x7fff_ffff_f000] {
      for offset in offsets {
        twins.restart()
        twins.set(3, start)
        twins.set(1, UInt64(bitPattern: offset))
        twins.set(9, UInt64(bitPattern: offset &* 3))
        twins.set(6, 5)
        twins.set(4, Layout.stack)
        #expect(try twins.run("\(start), bit \(offset)") == .halt)
      }
    }
    for canary in canaries { #expect(canary.areUntouched) }
  }

  /// CMPXCHG8B and CMPXCHG16B that find what they expect and what they do not, keep the other flags, and fault where the
  /// wide one is not aligned.
  @Test(arguments: [false, true], [false, true]) func wideCompareExchange(isWide: Bool, isLocked: Bool) throws {
    let twins = TwinMachines(.long64)
    // CMP ESI, EDI; the instruction on [R8 + 8]; PUSHFQ; POP R12; HLT.
    twins.place(
      [0x39, 0xfe] + (isLocked ? [0xf0] : []) + [isWide ? 0x49 : 0x41, 0x0f, 0xc7, 0x48, 8, 0x9c, 0x41, 0x5c, Self.hlt])
    for offset in [0, 8, 4, 0xfe8, 0xff0, 0xff8, 0xffc] as [UInt64] {
      for (low, high) in [(0x1111_1111_2222_2222, 0x3333_3333_4444_4444), (0, 0)] as [(UInt64, UInt64)] {
        for (one, other) in [(0, 0), (1, 2), (0x8000_0000, 1)] as [(UInt64, UInt64)] {
          twins.restart()
          twins.each {
            $0.store(0x1111_1111_2222_2222 as UInt64, Layout.data + offset + 8)
            $0.store((isWide ? 0x3333_3333_4444_4444 : 0x55) as UInt64, Layout.data + offset + 16)
          }
          twins.set(8, Layout.data + offset)
          twins.set(0, isWide ? low : low & 0xffff_ffff)
          twins.set(2, isWide ? high : low >> 32)
          twins.set(3, 0xaaaa)
          twins.set(1, 0xbbbb)
          twins.set(6, one)
          twins.set(7, other)
          twins.set(4, Layout.stack)
          #expect(try twins.run("offset \(offset), \(low)") == .halt)
        }
      }
    }
  }

  /// The bases of FS and GS, which the accesses behind them go by; refused where they are not canonical or not allowed.
  @Test(arguments: [true, false], [4, 8]) func bases(isAllowed: Bool, size: Int) throws {
    let twins = TwinMachines(.long64)
    let prefix: [UInt8] = size == 8 ? [0xf3, 0x48] : [0xf3]
    let extended: [UInt8] = size == 8 ? [0xf3, 0x49] : [0xf3, 0x41]
    twins.each {
      $0.cpu.pointee.cr4 = isAllowed ? $0.cpu.pointee.cr4 | CR4.fsgsbase : $0.cpu.pointee.cr4 & ~CR4.fsgsbase
      $0.store(0x1234_5678_9abc_def0 as UInt64, Layout.data + 16)
    }
    // CMP RCX, RCX; WRFSBASE RAX; WRGSBASE R10; MOV RDX, FS:[16]; RDFSBASE RBX; RDGSBASE R11; SETE SIL; HLT.
    twins.place(
      [0x48, 0x39, 0xc9] + prefix + [0x0f, 0xae, 0xd0] + extended + [0x0f, 0xae, 0xda]
        + [0x64, 0x48, 0x8b, 0x14, 0x25, 16, 0, 0, 0] + prefix + [0x0f, 0xae, 0xc3] + extended
        + [0x0f, 0xae, 0xcb, 0x40, 0x0f, 0x94, 0xc6, Self.hlt])
    for (fs, gs) in [
      (Layout.data, 1), (Layout.data, 0xffff_8000_0000_0000), (Layout.data, 1 << 47), (1 << 63, 0),
      (Layout.data | 5 << 32, ~0), (~0, 0x7fff_ffff_ffff),
    ] as [(UInt64, UInt64)] {
      twins.restart()
      twins.set(0, fs)
      twins.set(10, gs)
      twins.set(4, Layout.stack)
      #expect(try twins.run("FS \(fs), GS \(gs)") == .halt)
    }
  }
}
