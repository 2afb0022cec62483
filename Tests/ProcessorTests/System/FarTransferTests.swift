import CHost
import Testing
import X86

@testable import Processor

struct FarTransferTests {
  typealias Entry = TestProcessor.Entry
  typealias Layout = TestProcessor.Layout

  /// Far JMP and CALL by memory operand at RDI.
  static let jump: [UInt8] = [0xff, 0x2f]
  static let call: [UInt8] = [0xff, 0x1f]

  static func point(_ test: TestProcessor, _ selector: UInt16, _ offset: UInt64 = 0x1234) {
    test.store(UInt32(offset), Layout.data)
    test.store(selector, Layout.data + 4)
    test.cpu.pointee.gpr.7 = Layout.data
  }

  @Test(arguments: [TestProcessor.Mode.protected32, .long64])
  func directMatrix(_ mode: TestProcessor.Mode) {
    for cpl in [0, 1, 3] {
      for access in UInt8(0)...255 where access & 0x18 == 0x18 {
        for rpl in 0..<4 {
          for isCall in [false, true] {
            let test = TestProcessor(mode, ring: cpl)
            test.setDescriptor(
              Entry.scratch, TestProcessor.segment(access: access, flags: mode == .long64 ? 0xa : 0xc))
            Self.point(test, TestProcessor.selector(Entry.scratch, rpl))
            let oldCS = UInt64(test.cpu.pointee.segments.1.selector)
            let fault = test.execute(isCall ? Self.call : Self.jump)
            let dpl = Int(access >> 5 & 3)
            let isAllowed = access & 4 != 0 ? dpl <= cpl : rpl <= cpl && dpl == cpl
            let error = UInt32(Entry.scratch * 8)
            let want: GuestFault? =
              !isAllowed ? .generalProtection(error) : access & 0x80 == 0 ? .segmentNotPresent(error) : nil
            #expect(fault == want, "access \(access) rpl \(rpl) cpl \(cpl)")
            guard want == nil else { continue }
            #expect(test.cpu.pointee.rip == 0x1234 && Int(test.cpu.pointee.cpl) == cpl)
            #expect(test.cpu.pointee.segments.1.selector == TestProcessor.selector(Entry.scratch, cpl))
            if isCall {
              #expect(test.stack(0, size: 4) == Layout.code + 2 && test.stack(1, size: 4) == oldCS)
            }
          }
        }
      }
    }
  }

  @Test func directFaults() {
    let test = TestProcessor(.protected32)
    for (selector, want) in [
      (UInt16(0), GuestFault.generalProtection()), (3, .generalProtection()), (0x1000, .generalProtection(0x1000)),
      (UInt16(Entry.data32 * 8), .generalProtection(UInt32(Entry.data32 * 8))),
    ] {
      Self.point(test, selector)
      #expect(test.execute(Self.jump) == want && test.execute(Self.call) == want)
    }
    test.setDescriptor(Entry.scratch, TestProcessor.segment(limit: 0x1233, access: 0x9b, flags: 4))
    Self.point(test, UInt16(Entry.scratch * 8))
    #expect(test.execute(Self.jump) == .generalProtection())
    #expect(test.cpu.pointee.rip == Layout.code && test.cpu.pointee.gpr.4 == Layout.stack)
    // L and D together.
    let long = TestProcessor(.long64)
    long.setDescriptor(Entry.scratch, TestProcessor.segment(access: 0x9b, flags: 0xe))
    Self.point(long, UInt16(Entry.scratch * 8))
    #expect(long.execute(Self.jump) == .generalProtection(UInt32(Entry.scratch * 8)))
  }

  @Test func realModeAndImmediates() {
    let test = TestProcessor(.real)
    #expect(test.execute(0xea, 0x34, 0x12, 0x00, 0x20) == nil)
    #expect(test.cpu.pointee.rip == 0x1234 && test.cpu.pointee.segments.1.base == 0x20000)
    #expect(test.execute(0x9a, 0x78, 0x56, 0x00, 0x30) == nil)
    #expect(test.cpu.pointee.rip == 0x5678 && test.stack(0, size: 2) == 0x1239 && test.stack(1, size: 2) == 0x2000)
    #expect(test.execute(0xca, 0x04, 0x00) == nil)
    #expect(test.cpu.pointee.rip == 0x1239 && test.cpu.pointee.gpr.4 == Layout.stack + 4)
    let wide = TestProcessor(.protected32)
    let code = UInt8(Entry.code32 * 8)
    #expect(wide.execute(0xea, 0x78, 0x56, 0x34, 0x00, code, 0x00) == nil && wide.cpu.pointee.rip == 0x345678)
  }

  // MARK: Call gates

  @Test func callGates() {
    for is32 in [true, false] {
      let test = TestProcessor(.protected32, ring: 3)
      let cpu = test.cpu
      let size = is32 ? 4 : 2
      test.setDescriptor(
        Entry.scratch,
        TestProcessor.gate(UInt16(Entry.code32 * 8), 0x4321, access: is32 ? 0xec : 0xe4, count: 2))
      InterruptReturnTests.frame(test, [0x1111, 0x2222], size: size)
      let (cs, ss) = (UInt64(cpu.pointee.segments.1.selector), UInt64(cpu.pointee.segments.2.selector))
      Self.point(test, UInt16(Entry.scratch * 8 + 3))
      #expect(test.execute(Self.call) == nil)
      #expect(cpu.pointee.cpl == 0 && cpu.pointee.rip == 0x4321)
      #expect(cpu.pointee.gpr.4 == Layout.innerStack(0) - UInt64(6 * size))
      #expect((0..<6).map { test.stack($0, size: size) } == [Layout.code + 2, cs, 0x1111, 0x2222, Layout.stack, ss])
      // And back, over the parameters on both stacks.
      let back: [UInt8] = (is32 ? [] : [0x66]) + [0xca, UInt8(2 * size), 0]
      #expect(test.execute(back) == nil)
      #expect(cpu.pointee.cpl == 3 && cpu.pointee.gpr.4 == Layout.stack + UInt64(2 * size))
      #expect(cpu.pointee.rip == Layout.code + 2 && UInt64(cpu.pointee.segments.2.selector) == ss)
    }
  }

  @Test func gateChecks() {
    // Gate access byte, gate RPL, target, CPL, fault of CALL, fault of JMP.
    let gate = UInt32(Entry.scratch * 8)
    let code0 = UInt16(Entry.code32 * 8)
    let code3 = UInt16((Entry.code32 + 6) * 8)
    let cases: [(access: UInt8, rpl: Int, target: UInt16, cpl: Int, call: GuestFault?, jump: GuestFault?)] = [
      (0xec, 0, code0, 3, nil, .generalProtection(UInt32(code0))),
      (0xec, 3, code3 | 3, 3, nil, nil),
      (0x8c, 0, code0, 3, .generalProtection(gate), .generalProtection(gate)),
      (0xac, 2, code0, 0, .generalProtection(gate), .generalProtection(gate)),
      (0x6c, 0, code0, 0, .segmentNotPresent(gate), .segmentNotPresent(gate)),
      (0xec, 0, 0, 0, .generalProtection(), .generalProtection()),
      (0xec, 0, 0x800, 0, .generalProtection(0x800), .generalProtection(0x800)),
      (0xec, 0, code3, 0, .generalProtection(UInt32(code3)), .generalProtection(UInt32(code3))),
      (0xec, 0, UInt16(Entry.conforming32 * 8), 3, nil, nil),
      (
        0xec, 0, UInt16(Entry.data32 * 8), 0, .generalProtection(UInt32(Entry.data32 * 8)),
        .generalProtection(UInt32(Entry.data32 * 8))
      ),
      (0xee, 0, code0, 0, .generalProtection(gate), .generalProtection(gate)),
    ]
    for (number, entry) in cases.enumerated() {
      for isCall in [true, false] {
        let test = TestProcessor(.protected32, ring: entry.cpl)
        test.setDescriptor(Entry.scratch, TestProcessor.gate(entry.target, 0x4321, access: entry.access))
        Self.point(test, TestProcessor.selector(Entry.scratch, entry.rpl))
        #expect(test.execute(isCall ? Self.call : Self.jump) == (isCall ? entry.call : entry.jump), "case \(number)")
      }
    }
  }

  @Test func longModeGates() {
    for ring in [0, 3] {
      let test = TestProcessor(.long64, ring: ring)
      let cpu = test.cpu
      test.setDescriptor(Entry.scratch, TestProcessor.gate(UInt16(Entry.code64 * 8), 0x4321, access: 0xec, count: 31))
      test.setDescriptor(Entry.scratch + 1, 0x7f)
      let (cs, ss) = (UInt64(cpu.pointee.segments.1.selector), UInt64(cpu.pointee.segments.2.selector))
      Self.point(test, UInt16(Entry.scratch * 8 + ring))
      #expect(test.execute(Self.call) == nil)
      #expect(cpu.pointee.rip == 0x7f_0000_4321 && cpu.pointee.cpl == 0)
      #expect(test.stack(0) == Layout.code + 2 && test.stack(1) == cs)
      if ring == 3 {
        #expect(test.stack(2) == Layout.stack && test.stack(3) == ss && cpu.pointee.segments.2.selector == 0)
        #expect(cpu.pointee.gpr.4 == Layout.innerStack(0) - 32)
      }
      #expect(test.execute(0x48, 0xcb) == nil)
      #expect(cpu.pointee.rip == Layout.code + 2 && cpu.pointee.gpr.4 == Layout.stack && Int(cpu.pointee.cpl) == ring)
    }
    // The target must be 64-bit code; the gate's upper half must have no type; 16-bit and task gates do not exist.
    let test = TestProcessor(.long64)
    let gate = GuestFault.generalProtection(UInt32(Entry.scratch * 8))
    test.setDescriptor(Entry.scratch, TestProcessor.gate(UInt16(Entry.code32 * 8), 0x4321, access: 0xec))
    test.setDescriptor(Entry.scratch + 1, 0)
    Self.point(test, UInt16(Entry.scratch * 8))
    #expect(test.execute(Self.call) == .generalProtection(UInt32(Entry.code32 * 8)))
    test.setDescriptor(Entry.scratch + 1, 0x1 << 40)
    #expect(test.execute(Self.call) == gate)
    test.setDescriptor(Entry.scratch + 1, 0)
    for access in [0xe4, 0xe5, 0x89, 0x8b, 0x81] as [UInt8] {
      test.setDescriptor(Entry.scratch, TestProcessor.gate(UInt16(Entry.code64 * 8), 0, access: access))
      #expect(test.execute(Self.call) == gate && test.execute(Self.jump) == gate)
    }
  }

  @Test func wideOffsets() {
    let test = TestProcessor(.long64)
    test.store(0x7fff_1234_5678 as UInt64, Layout.data)
    test.store(UInt16(Entry.code64 * 8), Layout.data + 8)
    test.cpu.pointee.gpr.7 = Layout.data
    #expect(test.execute(0x48, 0xff, 0x2f) == nil && test.cpu.pointee.rip == 0x7fff_1234_5678)
    test.store(0x8000_1234_5678 as UInt64, Layout.data)
    #expect(test.execute(0x48, 0xff, 0x2f) == .generalProtection())
  }

  // MARK: RET

  @Test func returnChecks() {
    let code3 = UInt64((Entry.code32 + 6) * 8 + 3)
    let data3 = UInt64((Entry.data32 + 6) * 8 + 3)
    let code0 = UInt64(Entry.code32 * 8)
    let cases: [(frame: [UInt64], cpl: Int, want: GuestFault?)] = [
      ([1, code0], 0, nil), ([1, code3, 5, data3], 0, nil), ([1, code3, 0, 0], 3, nil),
      ([1, 0], 0, .generalProtection()), ([1, 0x900], 0, .generalProtection(0x900)),
      ([1, code0], 3, .generalProtection(UInt32(code0))),
      ([1, code0 | 3, 5, data3], 0, .generalProtection(UInt32(code0))),
      ([1, code3, 5, 0], 0, .generalProtection()), ([1, code3, 5, 0x20], 0, .generalProtection(0x20)),
      ([1, code3, 5, code3], 0, .generalProtection(UInt32(code3 & ~3))),
      ([1, data3], 3, .generalProtection(UInt32(data3 & ~3))),
    ]
    for (number, entry) in cases.enumerated() {
      let test = TestProcessor(.protected32, ring: entry.cpl)
      InterruptReturnTests.frame(test, entry.frame, size: 4)
      #expect(test.execute(0xcb) == entry.want, "case \(number)")
      if entry.want != nil { #expect(test.cpu.pointee.gpr.4 == Layout.stack && Int(test.cpu.pointee.cpl) == entry.cpl) }
    }
  }
}
