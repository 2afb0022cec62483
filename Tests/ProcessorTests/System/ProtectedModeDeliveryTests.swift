import CHost
import Testing
import X86

@testable import Processor

/// Interrupts and exceptions in protected mode, virtual-8086 mode and real-address mode.
struct ProtectedModeDeliveryTests {
  typealias Entry = TestProcessor.Entry
  typealias Layout = TestProcessor.Layout
  typealias Outcome = LongModeDeliveryTests.Outcome

  static let vector = 0x40

  static func outcome(_ test: TestProcessor) -> Outcome {
    guard let handled = test.handledVector else { return Outcome(vector: -1) }
    let hasCode = ExceptionVector(rawValue: UInt8(handled))?.pushesErrorCode ?? false
    return Outcome(vector: handled, errorCode: hasCode ? UInt32(truncatingIfNeeded: test.stack(0, size: 4)) : nil)
  }

  @Test(arguments: [0, 3])
  func gates(_ ring: Int) {
    for access in UInt8(0)...255 where access & 0x1f != 5 || access & 0x80 == 0 {
      for source in LongModeDeliveryTests.sources {
        let test = TestProcessor(.protected32, ring: ring)
        let isSoftware = source == .softwareInterrupt || source == .softwareException
        test.setGate(
          Self.vector, TestProcessor.selector(Entry.code32), Layout.handler + UInt64(Self.vector), access: access)
        test.processor.deliverInterrupt(UInt8(Self.vector), source, returnAddress: 0x4444)
        let gateError = UInt32(Self.vector) << 3 | 2 | (isSoftware ? 0 : 1)
        let isGate = [5, 6, 7, 14, 15].contains(access & 0x1f)
        let want: Outcome
        if !isGate || (isSoftware && Int(access >> 5 & 3) < ring) {
          want = Outcome(vector: 13, errorCode: gateError)
        } else if access & 0x80 == 0 {
          want = Outcome(vector: 11, errorCode: gateError)
        } else {
          want = Outcome(vector: Self.vector)
        }
        #expect(Self.outcome(test) == want, "access \(access) \(source)")
      }
    }
  }

  @Test(arguments: [0, 1, 3])
  func codeSegments(_ ring: Int) {
    for access in UInt8(0)...255 {
      let test = TestProcessor(.protected32, ring: ring)
      test.setDescriptor(Entry.scratch, TestProcessor.segment(access: access))
      let selector = UInt32(Entry.scratch * 8)
      test.setGate(Self.vector, UInt16(selector), Layout.handler + UInt64(Self.vector))
      test.processor.deliverInterrupt(UInt8(Self.vector), .externalInterrupt, returnAddress: 0)
      let want: Outcome
      if access & 0x18 != 0x18 || Int(access >> 5 & 3) > ring {
        want = Outcome(vector: 13, errorCode: selector | 1)
      } else if access & 0x80 == 0 {
        want = Outcome(vector: 11, errorCode: selector | 1)
      } else {
        want = Outcome(vector: Self.vector)
      }
      #expect(Self.outcome(test) == want, "access \(access)")
    }
  }

  @Test func frames() {
    for is32 in [false, true] {
      for ring in [0, 3] {
        let test = TestProcessor(.protected32, ring: ring)
        let cpu = test.cpu
        test.setGate(13, TestProcessor.selector(Entry.code32), access: is32 ? 0x8e : 0x86)
        cpu.pointee.rflags |= RFLAGS.if | RFLAGS.tf
        let flags = cpu.pointee.rflags | RFLAGS.rf
        let (cs, ss) = (cpu.pointee.segments.1.selector, cpu.pointee.segments.2.selector)
        test.processor.deliver(.generalProtection(0x88))
        let size = is32 ? 4 : 2
        let mask: UInt64 = is32 ? 0xffff_ffff : 0xffff
        let top = ring == 3 ? Layout.innerStack(0) : Layout.stack
        #expect(cpu.pointee.gpr.4 == top - UInt64((ring == 3 ? 6 : 4) * size))
        #expect(test.stack(0, size: size) == 0x88)
        #expect(test.stack(1, size: size) == Layout.code)
        #expect(test.stack(2, size: size) == UInt64(cs))
        #expect(test.stack(3, size: size) == flags & mask)
        if ring == 3 {
          #expect(test.stack(4, size: size) == Layout.stack)
          #expect(test.stack(5, size: size) == UInt64(ss))
          #expect(cpu.pointee.segments.2.selector == TestProcessor.selector(Entry.data32))
        }
        #expect(cpu.pointee.rflags == RFLAGS.fixed && cpu.pointee.cpl == 0)
      }
    }
  }

  /// What may be wrong with the stack that the TSS gives for the inner ring.
  @Test func innerStacks() {
    let good: UInt8 = 0x93
    let cases: [(selector: UInt16, access: UInt8, limit: UInt64, want: Outcome)] = [
      (UInt16(Entry.scratch * 8), good, 0xf_ffff, Outcome(vector: Self.vector)),
      (0, good, 0xf_ffff, Outcome(vector: 10, errorCode: 1)),
      (UInt16(Entry.scratch * 8 | 1), good, 0xf_ffff, Outcome(vector: 10, errorCode: UInt32(Entry.scratch * 8) | 1)),
      (0x400, good, 0xf_ffff, Outcome(vector: 10, errorCode: 0x401)),
      (UInt16(Entry.scratch * 8), 0xf3, 0xf_ffff, Outcome(vector: 10, errorCode: UInt32(Entry.scratch * 8) | 1)),
      (UInt16(Entry.scratch * 8), 0x91, 0xf_ffff, Outcome(vector: 10, errorCode: UInt32(Entry.scratch * 8) | 1)),
      (UInt16(Entry.scratch * 8), 0x9b, 0xf_ffff, Outcome(vector: 10, errorCode: UInt32(Entry.scratch * 8) | 1)),
      (UInt16(Entry.scratch * 8), 0x13, 0xf_ffff, Outcome(vector: 12, errorCode: UInt32(Entry.scratch * 8) | 1)),
      (UInt16(Entry.scratch * 8), good, 0x10, Outcome(vector: 12, errorCode: UInt32(Entry.scratch * 8) | 1)),
    ]
    for (number, entry) in cases.enumerated() {
      let test = TestProcessor(.protected32, ring: 1)
      test.setDescriptor(Entry.scratch, TestProcessor.segment(limit: entry.limit, access: entry.access))
      // Faults on the way have conforming handlers, which need no other stack.
      for vector in [10, 11, 12, 13] {
        test.setGate(vector, UInt16(Entry.conforming32 * 8), Layout.handler + UInt64(vector))
      }
      test.store(UInt32(entry.selector), Layout.tss + 8)
      test.processor.deliverInterrupt(UInt8(Self.vector), .externalInterrupt, returnAddress: 0)
      #expect(Self.outcome(test) == entry.want, "case \(number)")
      #expect(test.cpu.pointee.cpl == (number == 0 ? 0 : 1))
    }
  }

  @Test func handlerBeyondLimit() {
    let test = TestProcessor(.protected32)
    test.setDescriptor(Entry.scratch, TestProcessor.segment(limit: 0xfff, access: 0x9b, flags: 4))
    test.setGate(Self.vector, UInt16(Entry.scratch * 8), 0x1000)
    test.processor.deliverInterrupt(UInt8(Self.vector), .externalInterrupt, returnAddress: 0)
    #expect(Self.outcome(test) == Outcome(vector: 13, errorCode: 1))
  }

  // MARK: Virtual-8086 mode

  @Test func fromVirtual8086() {
    let test = TestProcessor(.virtual8086)
    let cpu = test.cpu
    for (number, selector) in [(0, UInt16(0x111)), (3, 0x333), (4, 0x444), (5, 0x555)] {
      test.processor.loadParagraph(number, selector)
    }
    test.processor.deliver(.generalProtection())
    #expect(Self.outcome(test) == Outcome(vector: 13, errorCode: 0))
    #expect(cpu.pointee.gpr.4 == Layout.innerStack(0) - 40)
    let frame = (1..<10).map { test.stack($0, size: 4) }
    #expect(
      frame == [
        Layout.code, 0, RFLAGS.fixed | RFLAGS.vm | RFLAGS.rf, Layout.stack, 0, 0x111, 0x333, 0x444, 0x555,
      ])
    #expect(cpu.pointee.cpl == 0 && cpu.pointee.rflags == RFLAGS.fixed)
    #expect(cpu.pointee.segments.3.selector == 0 && cpu.pointee.segments.3.attributes == 0)
    // Handlers of other rings are refused.
    for entry in [Entry.code32 + 2, Entry.conforming32] {
      let other = TestProcessor(.virtual8086)
      other.setGate(6, UInt16(entry * 8), access: 0xee)
      other.processor.deliver(.invalidOpcode)
      #expect(Self.outcome(other) == Outcome(vector: 13, errorCode: UInt32(entry * 8) | 1))
    }
  }

  /// INT n by IOPL, VME and the redirection map (SDM vol. 3B, table 20-2).
  @Test func interruptsInVirtual8086() {
    for usesVME in [false, true] {
      for iopl in [UInt64(0), 3] {
        for bit in [false, true] {
          let test = TestProcessor(.virtual8086)
          let cpu = test.cpu
          cpu.pointee.cr4 = usesVME ? CR4.vme : 0
          cpu.pointee.rflags |= iopl << 12 | RFLAGS.if | RFLAGS.vif
          test.setGate(0x21, UInt16(Entry.code32 * 8), Layout.handler + 0x21, access: 0xee)
          test.store(bit ? 2 : 0 as UInt8, Layout.tss + 0x88 - 32 + 4)
          test.store(0x0123_0456 as UInt32, 0x21 * 4)
          let fault = test.execute(0xcd, 0x21)
          if usesVME, !bit {
            #expect(fault == nil && cpu.pointee.cpl == 3)
            #expect(cpu.pointee.rip == 0x456 && cpu.pointee.segments.1.base == 0x1230)
            #expect(test.stack(0, size: 2) == Layout.code + 2)
            #expect(test.stack(2, size: 2) == UInt64(0x3202), "IOPL 3, IF or VIF as IF")
            #expect(cpu.pointee.rflags & (iopl == 3 ? RFLAGS.if : RFLAGS.vif) == 0)
            #expect(cpu.pointee.rflags & (iopl == 3 ? RFLAGS.vif : RFLAGS.if) != 0)
          } else if iopl == 3 {
            #expect(fault == nil && Self.outcome(test) == Outcome(vector: 0x21) && cpu.pointee.cpl == 0)
          } else {
            #expect(fault == .generalProtection())
          }
        }
      }
    }
    // INT3 is not subject to any of it.
    let test = TestProcessor(.virtual8086)
    test.setGate(3, UInt16(Entry.code32 * 8), Layout.handler + 3, access: 0xee)
    #expect(test.execute(0xcc) == nil && test.handledVector == 3)
  }

  // MARK: Real-address mode

  @Test func realMode() {
    let test = TestProcessor(.real)
    test.cpu.pointee.rflags |= RFLAGS.if | RFLAGS.tf | RFLAGS.ac
    test.run(0xcd, 0x21)
    #expect(test.handledVector == 0x21)
    #expect(test.stack(0, size: 2) == Layout.code + 2 && test.stack(1, size: 2) == 0)
    #expect(test.stack(2, size: 2) == RFLAGS.fixed | RFLAGS.if | RFLAGS.tf)
    #expect(test.cpu.pointee.rflags == RFLAGS.fixed && test.cpu.pointee.gpr.4 == Layout.stack - 6)
    // Exceptions push no error code, and go to the instruction.
    let fault = TestProcessor(.real)
    fault.processor.deliver(.generalProtection())
    #expect(fault.handledVector == 13 && fault.stack(0, size: 2) == Layout.code)
    #expect(fault.cpu.pointee.gpr.4 == Layout.stack - 6)
    // A vector table that ends early: #GP, #DF, the end.
    let short = TestProcessor(.real)
    short.cpu.pointee.idtr.limit = 0x23
    short.run(0xcd, 0x21)
    #expect(short.handledVector == 8)
    short.cpu.pointee.idtr.limit = 0x1f
    short.run(0xcd, 0x21)
    #expect(short.cpu.pointee.activity == .shutdown)
  }
}
