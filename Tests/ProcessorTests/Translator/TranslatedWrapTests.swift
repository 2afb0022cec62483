import CHost
import Machine
import Testing
import X86

@testable import Processor

/// Where code and data of segments end, and what lies beyond.
struct TranslatedWrapTests {
  typealias Layout = TestProcessor.Layout
  private static let hlt = TwinMachines.hlt

  private static func segment(_ base: UInt64, limit: UInt32, attributes: UInt16) -> SegmentState {
    SegmentState(base: base, limit: limit, selector: UInt16(truncatingIfNeeded: base >> 4), attributes: attributes)
  }

  /// IP wraps around at 16 bits, on the way down and on the way up, from a segment that begins within a page.
  @Test(arguments: [0x7_0000, 0x7_0010, 0x7_0ff0] as [UInt64]) func instructionPointer(_ base: UInt64) throws {
    let twins = TwinMachines(.real)
    let code = Self.segment(base, limit: 0xffff, attributes: 0x9b)
    // At 8: JMP to FFFAH. There: DEC CX; JNZ 20H, by a displacement that goes beyond FFFFH. At 20H: JMP 8.
    twins.place([0xeb, 0xf0], at: base + 8)
    twins.place([0x49, 0x75, 0x23, Self.hlt], at: base + 0xfffa)
    twins.place([0xe9, 0xe5, 0xff], at: base + 0x20)
    for _ in 0..<3 {
      twins.restart(at: 8)
      twins.each { $0.cpu.pointee.segments.1 = code }
      twins.set(1, 5)
      #expect(try twins.run("base \(base)") == .halt)
      #expect(twins.cpu.rip == 0xfffe && twins.cpu.gpr.1 & 0xffff == 0)
    }
  }

  /// The same bytes under another limit of CS, and at another RIP: a jump and the end of a block that lead beyond it.
  @Test func codeLimits() throws {
    let twins = TwinMachines(.protected32)
    let start: UInt64 = 0x7_0ff0
    // DEC ECX; JNZ +0; JMP +4; …; HLT.
    twins.place([0x49, 0x75, 0, 0xeb, 4, 0x90, 0x90, 0x90, 0x90, Self.hlt], at: start)
    for (base, limit) in [(0x7_0000, 0xffff), (0x7_0000, 0xff6), (0x7_0000, 0xff2), (0x6_ff00, 0xffff), (0, ~0)]
      as [(UInt64, UInt32)]
    {
      for count in [3, 2, 1] as [UInt64] {
        twins.restart(at: start - base)
        twins.each {
          $0.cpu.pointee.segments.1 = Self.segment(base, limit: limit, attributes: 0x9b | SegmentAttributes.big)
          $0.cpu.pointee.cpl = 0
          $0.cpu.pointee.segments.2 = Self.segment(0, limit: ~0, attributes: 0x93 | SegmentAttributes.big)
        }
        twins.set(1, count)
        twins.set(4, Layout.stack)
        #expect(try twins.run("base \(base), limit \(limit)") == .halt)
        let isInside = UInt64(limit) >= start - base + 9
        let inside = start - base + 10
        #expect(twins.cpu.rip == (isInside ? inside : TwinMachines.handler(13) + 1))
      }
    }
  }

  /// What would be no instruction beyond the limit is not looked at: #GP, not #UD. Neither is the rest of one that the limit
  /// cuts, be it the end of its page, too.
  @Test(arguments: [0xffff, 0xf123]) func noInstructionBeyondTheLimit(_ limit: UInt64) throws {
    let twins = TwinMachines(.protected32)
    let base: UInt64 = 0x7_0000
    for (code, length) in [([0x90, 0xfe, 0x53], 1), ([0x90, 0x0f, 0x04], 2), ([0x0f, 0x04], 1), ([0xfe, 0x53], 2)]
      as [([UInt8], UInt64)]
    {
      for distance in 0..<3 as Range<UInt64> {
        // So many bytes are within the limit.
        let inside = length - 1 + distance
        guard inside > 0 else { continue }
        twins.place(code + [UInt8](repeating: Self.hlt, count: 16), at: base + limit + 1 - inside)
        twins.restart(at: limit + 1 - inside)
        twins.each {
          $0.cpu.pointee.segments.1 = Self.segment(
            base, limit: UInt32(limit), attributes: 0x9b | SegmentAttributes.big)
          $0.cpu.pointee.cpl = 0
          $0.cpu.pointee.segments.2 = Self.segment(0, limit: ~0, attributes: 0x93 | SegmentAttributes.big)
        }
        twins.set(4, Layout.stack)
        #expect(try twins.run("\(code), limit \(limit), \(inside) inside") == .halt)
        let isUndefined = inside >= UInt64(code.count)
        #expect(twins.cpu.rip == TwinMachines.handler(isUndefined ? 6 : 13) + 1, "\(code), \(inside) inside")
      }
    }
  }

  /// 32-bit accesses at the end of a segment, with bases that make them wrap around at 4 GiB: #GP before anything else.
  @Test(arguments: [0, 0x6_0000, 0xffff_fff0, 0x8000_0000] as [UInt64], [0xfff, 0xffff_ffff, 0x1001, 2] as [UInt32])
  func dataLimits(_ base: UInt64, _ limit: UInt32) throws {
    let twins = TwinMachines(.protected32)
    let canaries = twins.machines.map { HostCanaries(around: $0.memory) }
    // MOV ES:[EBX], EAX; MOV ECX, ES:[EBX]; MOV DX, ES:[EBX + 1]; HLT.
    twins.place([0x26, 0x89, 0x03, 0x26, 0x8b, 0x0b, 0x26, 0x66, 0x8b, 0x53, 1, Self.hlt])
    let initial = twins.cpu.segments
    for distance in 0..<6 as Range<UInt64> {
      for offset in [UInt64(limit) &- distance, distance, 0x6_0ffe &- base &+ distance] {
        twins.restart()
        twins.each {
          $0.cpu.pointee.segments = initial
          $0.cpu.pointee.segments.0 = Self.segment(base, limit: limit, attributes: 0x93 | SegmentAttributes.big)
        }
        twins.set(3, offset & 0xffff_ffff)
        twins.set(0, 0x1234_5678)
        twins.set(4, Layout.stack)
        try twins.run("base \(base), limit \(limit), offset \(offset)")
      }
    }
    for canary in canaries { #expect(canary.areUntouched) }
  }

  /// The base of a segment whose limit is looked at, changed by WRMSR between two accesses of flat code.
  @Test func changedBase() throws {
    let twins = TwinMachines(.protected32)
    twins.each {
      $0.cpu.pointee.segments.4 = Self.segment(Layout.data, limit: 0xfff, attributes: 0x93 | SegmentAttributes.big)
      $0.store(0x1111 as UInt32, Layout.data)
      $0.store(0x2222 as UInt32, Layout.data + 0x1000)
    }
    // MOV EBX, FS:[0]; WRMSR (IA32_FS_BASE); MOV ESI, FS:[0]; HLT.
    twins.place([
      0x64, 0x8b, 0x1d, 0, 0, 0, 0, 0x0f, 0x30, 0x64, 0x8b, 0x35, 0, 0, 0, 0, Self.hlt,
    ])
    twins.restart()
    twins.set(0, Layout.data + 0x1000)
    twins.set(1, 0xc000_0100)
    twins.set(2, 0)
    #expect(try twins.run("WRMSR") == .halt)
    #expect(twins.cpu.gpr.3 == 0x1111 && twins.cpu.gpr.6 == 0x2222)
  }
}
