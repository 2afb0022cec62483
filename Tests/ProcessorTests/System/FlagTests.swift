import CHost
import Testing
import X86

@testable import Processor

struct FlagTests {
  typealias Layout = TestProcessor.Layout

  @Test func interruptFlag() {
    // Ring, IOPL, PVI; whether the real flag, the virtual one or none may be changed.
    for ring in 0..<4 {
      for iopl in UInt64(0)..<4 {
        for usesPVI in [false, true] {
          let test = TestProcessor(.protected32, ring: ring)
          let cpu = test.cpu
          cpu.pointee.rflags |= iopl << 12
          if usesPVI { cpu.pointee.cr4 |= CR4.pvi }
          let isReal = UInt64(ring) <= iopl
          let isVirtual = !isReal && usesPVI && ring == 3
          let want: GuestFault? = isReal || isVirtual ? nil : .generalProtection()
          #expect(test.execute(0xfb) == want)
          #expect((cpu.pointee.rflags & RFLAGS.if != 0) == isReal)
          #expect((cpu.pointee.rflags & RFLAGS.vif != 0) == isVirtual)
          #expect(test.execute(0xfa) == want)
          #expect(cpu.pointee.rflags & (RFLAGS.if | RFLAGS.vif) == 0)
          cpu.pointee.rflags |= RFLAGS.vip
          #expect(test.execute(0xfb) == (isVirtual ? .generalProtection() : want))
        }
      }
    }
    for (iopl, usesVME) in [(UInt64(3), false), (0, true), (0, false)] {
      let test = TestProcessor(.virtual8086)
      test.cpu.pointee.rflags |= iopl << 12
      if usesVME { test.cpu.pointee.cr4 |= CR4.vme }
      #expect(test.execute(0xfb) == (iopl == 3 || usesVME ? nil : .generalProtection()))
      #expect((test.cpu.pointee.rflags & RFLAGS.vif != 0) == (usesVME && iopl == 0))
    }
    #expect(TestProcessor(.real).execute(0xfb) == nil)
  }

  @Test func pushAndPop() {
    for ring in 0..<4 {
      for iopl in [UInt64(0), 2, 3] {
        for size in [2, 4] {
          let prefix: [UInt8] = size == 2 ? [0x66] : []
          let test = TestProcessor(.protected32, ring: ring)
          let cpu = test.cpu
          let old = RFLAGS.fixed | iopl << 12 | RFLAGS.vip | RFLAGS.rf | RFLAGS.ac
          cpu.pointee.rflags = old
          #expect(test.execute(prefix + [0x9c]) == nil)
          #expect(test.stack(0, size: size) == (old & ~RFLAGS.rf) & (size == 2 ? 0xffff : ~0))
          test.store(UInt32(RFLAGS.loadable ^ RFLAGS.ac), cpu.pointee.gpr.4)
          #expect(test.execute(prefix + [0x9d]) == nil)
          var want = RFLAGS.arithmetic | RFLAGS.tf | RFLAGS.df | RFLAGS.nt | RFLAGS.fixed | RFLAGS.vip
          want |= size == 2 ? RFLAGS.ac : RFLAGS.id
          want |= ring == 0 ? RFLAGS.iopl : iopl << 12
          if UInt64(ring) <= iopl { want |= RFLAGS.if }
          #expect(cpu.pointee.rflags == want, "ring \(ring) iopl \(iopl) size \(size)")
          #expect(cpu.pointee.gpr.4 == Layout.stack)
          #expect(CodeMode(rawValue: cpu.pointee.engine.blockKey).contains(.stepping), "TF is on")
        }
      }
    }
  }

  @Test func pushAndPopInVirtual8086() {
    for (iopl, usesVME, size) in [(3, false, 2), (3, false, 4), (0, false, 2), (0, true, 2), (0, true, 4)] {
      let test = TestProcessor(.virtual8086)
      let cpu = test.cpu
      let prefix: [UInt8] = size == 4 ? [0x66] : []
      cpu.pointee.rflags |= UInt64(iopl) << 12 | RFLAGS.vif
      if usesVME { cpu.pointee.cr4 |= CR4.vme }
      let isAllowed = iopl == 3 || (usesVME && size == 2)
      #expect(test.execute(prefix + [0x9c]) == (isAllowed ? nil : .generalProtection()))
      if isAllowed {
        let image = test.stack(0, size: size)
        #expect(image & RFLAGS.vm == 0 && image >> 12 & 3 == 3)
        #expect((image & RFLAGS.if != 0) == (iopl == 0))
      }
      cpu.pointee.gpr.4 = Layout.stack
      test.store(UInt32(RFLAGS.if | RFLAGS.cf), Layout.stack)
      cpu.pointee.rflags &= ~RFLAGS.vif
      #expect(test.execute(prefix + [0x9d]) == (isAllowed ? nil : .generalProtection()))
      if isAllowed {
        #expect(cpu.pointee.rflags & (RFLAGS.if | RFLAGS.vif) == (iopl == 3 ? RFLAGS.if : RFLAGS.vif))
        #expect(cpu.pointee.rflags & RFLAGS.vm != 0 && cpu.pointee.rflags >> 12 & 3 == UInt64(iopl))
      }
    }
    for (image, flags) in [(RFLAGS.tf, UInt64(0)), (RFLAGS.if, RFLAGS.vip)] {
      let test = TestProcessor(.virtual8086)
      test.cpu.pointee.cr4 |= CR4.vme
      test.cpu.pointee.rflags |= flags
      test.store(UInt16(image), Layout.stack)
      #expect(test.execute(0x9d) == .generalProtection())
    }
  }

  @Test func accessFlag() {
    let test = TestProcessor(.long64)
    test.cpu.pointee.cr4 |= CR4.smap
    test.processor.modeChanged()
    let user: UInt64 = Layout.data
    #expect((try? test.processor.load(user, as: UInt8.self)) == nil, "the map is the user's")
    #expect(test.execute(0x0f, 0x01, 0xcb) == nil)
    #expect((try? test.processor.load(user, as: UInt8.self)) != nil)
    #expect(test.execute(0x0f, 0x01, 0xca) == nil)
    #expect((try? test.processor.load(user, as: UInt8.self)) == nil)
    #expect(TestProcessor(.long64, ring: 3).execute(0x0f, 0x01, 0xcb) == .invalidOpcode)
  }

  @Test func singleFlags() {
    let test = TestProcessor(.long64)
    let cpu = test.cpu
    #expect(test.execute(0xf9) == nil && cpu.pointee.rflags == RFLAGS.fixed | RFLAGS.cf)
    #expect(test.execute(0xf5) == nil && cpu.pointee.rflags == RFLAGS.fixed)
    #expect(test.execute(0xfd) == nil && cpu.pointee.rflags == RFLAGS.fixed | RFLAGS.df)
    #expect(test.execute(0xfc) == nil && test.execute(0xf9) == nil && test.execute(0xf8) == nil)
    #expect(cpu.pointee.rflags == RFLAGS.fixed)
    cpu.pointee.gpr.0 = 0xff00
    #expect(test.execute(0x9e) == nil && cpu.pointee.rflags == 0xd7)
    cpu.pointee.gpr.0 = 0
    #expect(test.execute(0x9f) == nil && cpu.pointee.gpr.0 == 0xd700)
  }

  // MARK: Other instructions of this family

  @Test func traps() {
    for (code, vector, width) in [([0xcc] as [UInt8], 3, 1), ([0xf1], 1, 1), ([0xcd, 0x80], 0x80, 2)] {
      let test = TestProcessor(.long64, ring: 3)
      test.setGate(vector, 0x50, Layout.handler + UInt64(vector), access: 0xee)
      #expect(test.execute(code) == nil && test.handledVector == vector)
      #expect(test.stack(0) == Layout.code + UInt64(width))
    }
    // A gate that ring 3 may not use: but INT1 is not held to it.
    let test = TestProcessor(.long64, ring: 3)
    #expect(test.execute(0xcc) == nil && test.handledVector == 13 && test.stack(0) == 3 << 3 | 2)
    let icebp = TestProcessor(.long64, ring: 3)
    #expect(icebp.execute(0xf1) == nil && icebp.handledVector == 1)
    #expect(icebp.cpu.pointee.dr6 == DebugStatus.fixed)
    let overflow = TestProcessor(.protected32)
    #expect(overflow.execute(0xce) == nil && overflow.cpu.pointee.rip == Layout.code + 1)
    overflow.cpu.pointee.rflags |= RFLAGS.of
    #expect(overflow.execute(0xce) == nil && overflow.handledVector == 4)
    for code in [[0x0f, 0x0b], [0x0f, 0xff, 0xc0], [0x0f, 0xb9, 0xc0], [0x0f, 0xaa]] as [[UInt8]] {
      #expect(TestProcessor(.long64).execute(code) == .invalidOpcode)
    }
  }

  /// #AC: ring 3, CR0.AM and AC all together; after the faults of paging; not for the processor's own accesses.
  @Test func alignmentChecks() {
    for ring in [0, 3] {
      for mask in [false, true] {
        for ac in [false, true] {
          let test = TestProcessor(.long64, ring: ring)
          #expect((try? test.processor.load(Layout.data, as: UInt8.self)) != nil)
          if mask { test.cpu.pointee.cr0 |= CR0.am }
          if ac { test.cpu.pointee.rflags |= RFLAGS.ac }
          test.processor.modeChanged()
          let want: GuestFault? = ring == 3 && mask && ac ? .exception(.alignmentCheck, errorCode: 0) : nil
          for (code, isAligned) in [
            ([0x8b, 0x07], false), ([0x89, 0x07], false), ([0x48, 0x8b, 0x07], false), ([0x01, 0x07], false),
            ([0xf0, 0x01, 0x07], false), ([0x66, 0x8b, 0x07], true), ([0x8a, 0x07], true),
          ] as [([UInt8], Bool)] {
            test.cpu.pointee.gpr.7 = Layout.data + 2
            #expect(test.execute(code) == (isAligned ? nil : want), "\(ring) \(mask) \(ac) \(code)")
            test.cpu.pointee.gpr.7 = Layout.data + 8
            #expect(test.execute(code) == nil)
          }
          test.cpu.pointee.gpr.7 = 0x30_0001
          #expect(test.execute(0x8b, 0x07) == .pageFault(address: 0x30_0001, errorCode: ring == 3 ? 4 : 0))
          test.cpu.pointee.gpr.4 = Layout.stack + 1
          #expect(test.execute(0x50) == want)
          if want != nil {
            test.processor.deliver(.exception(.alignmentCheck, errorCode: 0))
            #expect(test.handledVector == 17 && test.stack(0) == 0)
          }
        }
      }
    }
  }

  /// Everything that only ring 0 may do.
  @Test func privilege() {
    let codes: [[UInt8]] = [
      [0xf4], [0x0f, 0x06], [0x0f, 0x08], [0x0f, 0x09], [0x0f, 0x20, 0xc0], [0x0f, 0x22, 0xc0], [0x0f, 0x21, 0xc0],
      [0x0f, 0x23, 0xc0], [0x0f, 0x30], [0x0f, 0x32], [0x0f, 0x01, 0x38], [0x0f, 0x01, 0xf0], [0x0f, 0x01, 0x10],
      [0x0f, 0x01, 0x18], [0x0f, 0x00, 0xd0], [0x0f, 0x00, 0xd8], [0x66, 0x0f, 0x38, 0x82, 0x00],
    ]
    for mode in [TestProcessor.Mode.protected32, .long64, .compatibility] {
      for ring in 1...3 {
        for code in codes {
          #expect(TestProcessor(mode, ring: ring).execute(code) == .generalProtection(), "\(mode) \(ring) \(code)")
        }
      }
    }
  }

  @Test func bounds() {
    let test = TestProcessor(.protected32)
    test.store(Int32(-5), Layout.data)
    test.store(Int32(7), Layout.data + 4)
    test.cpu.pointee.gpr.7 = Layout.data
    for (value, isInside) in [(Int32(-6), false), (-5, true), (0, true), (7, true), (8, false)] {
      test.cpu.pointee.gpr.0 = UInt64(UInt32(bitPattern: value))
      #expect(test.execute(0x62, 0x07) == (isInside ? nil : .exception(.boundRange, errorCode: 0)))
    }
  }

  @Test func haltAndHypercalls() {
    let test = TestProcessor(.long64)
    #expect(test.execute(0xf4) == nil && test.cpu.pointee.activity == .halted)
    #expect(TestProcessor(.long64, ring: 3).execute(0xf4) == .generalProtection())
    var model = CPUModel()
    model.offersHypercalls = false
    #expect(TestProcessor(.long64, model: model).execute(0x0f, 0x01, 0xc1) == .invalidOpcode)
    let guest = TestProcessor(.long64)
    #expect(guest.execute(0x0f, 0x01, 0xc1) == nil && guest.processor.pendingExits.next() == .hypercall)
    #expect(guest.execute(0x0f, 0x01, 0xd9) == nil && guest.processor.pendingExits.next() == .hypercall)
    #expect(guest.execute(0x0f, 0x01, 0xc8) == .invalidOpcode, "MONITOR is not offered")
  }
}
