import CHost
import Testing
import X86

@testable import Processor

/// Interrupts and exceptions in IA-32e mode: gates, privileges, stacks, and what goes wrong on the way.
struct LongModeDeliveryTests {
  typealias Entry = TestProcessor.Entry
  typealias Layout = TestProcessor.Layout

  /// Vector whose gate the tests break; faults on the way go to gates that are whole.
  static let vector = 0x40

  /// What is to come out: a handler, and its error code if there is one.
  struct Outcome: Equatable, CustomStringConvertible {
    var vector: Int
    var errorCode: UInt32?
    var description: String { "vector \(vector), error \(errorCode.map { String($0, radix: 16) } ?? "none")" }
  }

  static func outcome(_ test: TestProcessor) -> Outcome {
    guard let handled = test.handledVector else { return Outcome(vector: -1) }
    let hasCode = ExceptionVector(rawValue: UInt8(handled))?.pushesErrorCode ?? false
    return Outcome(vector: handled, errorCode: hasCode ? UInt32(truncatingIfNeeded: test.stack(0)) : nil)
  }

  static let sources: [Event.Source] = [.externalInterrupt, .softwareInterrupt, .softwareException, .exception]

  @Test(arguments: [0, 1, 2, 3])
  func gates(_ ring: Int) {
    let test = TestProcessor(.long64, ring: ring)
    for access in UInt8(0)...255 {
      for source in Self.sources {
        let isSoftware = source == .softwareInterrupt || source == .softwareException
        let external: UInt32 = isSoftware ? 0 : 1
        test.restart(ring: ring)
        test.setGate(Self.vector, 0x50, Layout.handler + UInt64(Self.vector), access: access)
        test.processor.deliverInterrupt(UInt8(Self.vector), source, returnAddress: 0x4444)
        let gateError = UInt32(Self.vector) << 3 | 2 | external
        let want: Outcome
        if access & 0x1e != 0xe || (isSoftware && Int(access >> 5 & 3) < ring) {
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

  @Test(arguments: [0, 3])
  func codeSegments(_ ring: Int) {
    let test = TestProcessor(.long64, ring: ring)
    let index = Entry.scratch
    let selector = UInt32(index * 8)
    for access in UInt8(0)...255 {
      for flags in UInt8(0)..<16 {
        test.restart(ring: ring)
        test.setDescriptor(index, TestProcessor.segment(access: access, flags: flags))
        test.setGate(Self.vector, UInt16(selector), Layout.handler + UInt64(Self.vector))
        test.processor.deliverInterrupt(UInt8(Self.vector), .externalInterrupt, returnAddress: 0x4444)
        let isCode = access & 0x18 == 0x18
        let dpl = Int(access >> 5 & 3)
        let want: Outcome
        if !isCode || dpl > ring || flags & 2 == 0 || flags & 4 != 0 {
          want = Outcome(vector: 13, errorCode: selector | 1)
        } else if access & 0x80 == 0 {
          want = Outcome(vector: 11, errorCode: selector | 1)
        } else {
          want = Outcome(vector: Self.vector)
          #expect(Int(test.cpu.pointee.cpl) == (access & 4 != 0 ? ring : dpl))
          #expect(test.descriptor(index) >> 40 & 1 == 1, "accessed")
        }
        #expect(Self.outcome(test) == want, "access \(access) flags \(flags)")
      }
    }
  }

  @Test func selectors() {
    let test = TestProcessor(.long64, ring: 3)
    for (selector, error) in [(UInt16(0), UInt32(1)), (3, 1), (64 * 8, 64 * 8 | 1), (0x54, 0x55)] {
      test.restart(ring: 3)
      test.setGate(Self.vector, selector)
      test.processor.deliverInterrupt(UInt8(Self.vector), .externalInterrupt, returnAddress: 0)
      #expect(Self.outcome(test) == Outcome(vector: 13, errorCode: error))
    }
    test.restart(ring: 3)
    test.cpu.pointee.idtr.limit = UInt32(Self.vector * 16 + 14)
    test.processor.deliverInterrupt(UInt8(Self.vector), .nonMaskableInterrupt, returnAddress: 0)
    #expect(Self.outcome(test) == Outcome(vector: 13, errorCode: UInt32(Self.vector) << 3 | 3))
  }

  @Test func frames() {
    for ring in [0, 3] {
      for stack in UInt8(0)..<8 {
        for hasCode in [false, true] {
          let test = TestProcessor(.long64, ring: ring)
          let cpu = test.cpu
          let vector = hasCode ? 13 : 6
          test.setGate(vector, 0x50, Layout.handler + UInt64(vector), stack: stack)
          cpu.pointee.gpr.4 = 0x7ff3
          cpu.pointee.rflags |= RFLAGS.if | RFLAGS.tf | RFLAGS.nt | RFLAGS.cf
          let flags = cpu.pointee.rflags
          let (cs, ss) = (cpu.pointee.segments.1.selector, cpu.pointee.segments.2.selector)
          test.processor.deliver(hasCode ? .generalProtection(0x1234) : .invalidOpcode)
          let top = stack != 0 ? Layout.interruptStack(Int(stack)) : ring == 3 ? Layout.innerStack(0) : 0x7ff0
          #expect(cpu.pointee.gpr.4 == top - (hasCode ? 48 : 40))
          let first = hasCode ? 1 : 0
          if hasCode { #expect(test.stack(0) == 0x1234) }
          #expect(test.stack(first) == Layout.code)
          #expect(test.stack(first + 1) == UInt64(cs))
          #expect(test.stack(first + 2) == flags | RFLAGS.rf)
          #expect(test.stack(first + 3) == 0x7ff3)
          #expect(test.stack(first + 4) == UInt64(ss))
          #expect(cpu.pointee.rflags == RFLAGS.fixed | RFLAGS.cf)
          #expect(cpu.pointee.cpl == 0 && cpu.pointee.segments.1.selector == 0x50)
          #expect(cpu.pointee.segments.2.selector == (ring == 3 ? 0 : ss))
          #expect(test.processor.codeMode.contains(.code64) && !test.processor.codeMode.contains(.unprivileged))
        }
      }
    }
  }

  /// Trap gates leave IF; interrupts do not set RF in the image.
  @Test func flags() {
    let test = TestProcessor(.long64, ring: 3)
    test.cpu.pointee.rflags |= RFLAGS.if
    test.setGate(Self.vector, 0x50, access: 0x8f)
    test.processor.deliverInterrupt(UInt8(Self.vector), .externalInterrupt, returnAddress: 0x4567)
    #expect(test.cpu.pointee.rflags & RFLAGS.if != 0)
    #expect(test.stack(0) == 0x4567 && test.stack(2) & RFLAGS.rf == 0)
  }

  @Test func fromCompatibilityMode() {
    let test = TestProcessor(.compatibility, ring: 3)
    // The handler's stack is beyond what 32 bits address: a second mapping of the first 2 MiB.
    test.store(Layout.pageTables + 0x1000 | 7, Layout.pageTables + 511 * 8)
    let top: UInt64 = 0xffff_ff80_0003_0000
    test.store(top, Layout.tss + 4)
    test.processor.deliver(.invalidOpcode)
    #expect(test.cpu.pointee.gpr.4 == top - 40)
    #expect(test.load(0x2_ffd8, as: UInt64.self) == Layout.code)
    #expect(test.processor.isLongMode64)
  }

  @Test func badStacks() {
    // Not canonical: #SS with EXT, which needs a stack of its own.
    let test = TestProcessor(.long64, ring: 3)
    test.setGate(12, 0x50, Layout.handler + 12, stack: 1)
    test.store(0x8000_0000_0000_0000 as UInt64, Layout.tss + 4)
    test.processor.deliver(.invalidOpcode)
    #expect(Self.outcome(test) == Outcome(vector: 12, errorCode: 1))
    // Beyond the TSS: #TS.
    test.restart(ring: 3)
    test.cpu.pointee.tr.limit = 28 + 3 * 8 + 6
    test.setGate(6, 0x50, Layout.handler + 6, stack: 3)
    test.processor.deliver(.invalidOpcode)
    #expect(Self.outcome(test) == Outcome(vector: 10, errorCode: UInt32(Entry.task * 8) | 1))
    // A handler that is not canonical: #GP.
    test.restart(ring: 3)
    test.setGate(6, 0x50, 0x8000_0000_0000_0000)
    test.processor.deliver(.invalidOpcode)
    #expect(Self.outcome(test) == Outcome(vector: 13, errorCode: 1))
  }

  // MARK: Faults on the way

  @Test func pageFaultSetsCR2() {
    let test = TestProcessor(.long64, ring: 3)
    test.processor.deliver(.pageFault(address: 0xdead_beef, errorCode: 6))
    #expect(test.cpu.pointee.cr2 == 0xdead_beef)
    #expect(Self.outcome(test) == Outcome(vector: 14, errorCode: 6))
  }

  /// SDM vol. 3A, table 6-5: two faults in a row are serial, a double fault, or (after one) the end.
  @Test func doubleFaults() {
    let firsts = [0, 6, 10, 11, 12, 13, 14, 8, 1, 17]
    for first in firsts {
      for second in [11, 13, 14] {
        let test = TestProcessor(.long64, ring: 3)
        test.breakGate(first, raising: second)
        let code: UInt32 = 0
        test.processor.deliver(
          first == 14
            ? .pageFault(address: 0x77, errorCode: 0)
            : .exception(ExceptionVector(rawValue: UInt8(first))!, errorCode: code))
        let isContributory = [0, 10, 11, 12, 13].contains(first)
        if first == 8 {
          #expect(test.cpu.pointee.activity == .shutdown)
          #expect(test.cpu.pointee.rip == Layout.code)
        } else if (isContributory && second != 14) || first == 14 {
          #expect(Self.outcome(test) == Outcome(vector: 8, errorCode: 0), "\(first) then \(second)")
        } else {
          #expect(Self.outcome(test).vector == second, "\(first) then \(second)")
        }
        if second == 14 { #expect(test.cpu.pointee.cr2 == 0x20_0000 + 0x40) }
      }
    }
  }

  @Test func tripleFault() {
    let test = TestProcessor(.long64, ring: 3)
    test.cpu.pointee.idtr.limit = 0
    let flags = test.cpu.pointee.rflags
    #expect(test.processor.deliver(.invalidOpcode))
    #expect(test.cpu.pointee.activity == .shutdown)
    #expect(test.cpu.pointee.rip == Layout.code && test.cpu.pointee.rflags == flags && test.cpu.pointee.cpl == 3)
    #expect(test.processor.deliverPendingEvents() == .stayInactive)
  }

  /// INT n is benign whatever its number: what goes wrong on its way is delivered as it is.
  @Test func softwareInterruptsAreBenign() {
    let test = TestProcessor(.long64)
    test.breakGate(13, raising: 11)
    test.run(0xcd, 13)
    #expect(Self.outcome(test) == Outcome(vector: 11, errorCode: 13 << 3 | 2))
    #expect(test.stack(1) == Layout.code, "the fault is the INT's own")
  }
}

extension TestProcessor {
  /// Back to where the set-up left the registers, with handlers whole again.
  func restart(ring: Int) {
    for vector in 0..<256 { setGate(vector, Self.selector(Entry.code64), Layout.handler + UInt64(vector)) }
    cpu.pointee.idtr.limit = 256 * 16 - 1
    cpu.pointee.tr.limit = 0xfff
    for ring in 0..<3 { store(Layout.innerStack(ring), Layout.tss + 4 + UInt64(ring) * 8) }
    setSegment(.cs, Entry.code64 + 2 * ring, rpl: ring)
    setSegment(.ss, Entry.data32 + 2 * ring, rpl: ring)
    cpu.pointee.cpl = UInt8(ring)
    cpu.pointee.rip = Layout.code
    cpu.pointee.gpr.4 = Layout.stack
    cpu.pointee.rflags = RFLAGS.fixed
    processor.modeChanged()
  }

  /// Makes the delivery of a vector raise #NP, #GP or #PF.
  func breakGate(_ vector: Int, raising second: Int) {
    switch second {
    case 11: setGate(vector, Self.selector(Entry.code64), access: 0x0e)
    case 13: setGate(vector, Self.selector(Entry.code64), access: 0x80)
    default:
      // A code segment whose descriptor is in an LDT that is not mapped.
      cpu.pointee.ldtr = SegmentState(base: 0x20_0000, limit: 0xfff, selector: 8, attributes: 0x82)
      setGate(vector, 0x44)
    }
  }
}
