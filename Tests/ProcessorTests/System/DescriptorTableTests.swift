import CHost
import Testing
import X86

@testable import Processor

struct DescriptorTableTests {
  typealias Entry = TestProcessor.Entry
  typealias Layout = TestProcessor.Layout

  @Test func tableRegisters() {
    let long = TestProcessor(.long64)
    let cpu = long.cpu
    cpu.pointee.gpr.0 = Layout.data
    long.store(0x1234 as UInt16, Layout.data)
    long.store(0xffff_8765_4321_0000 as UInt64, Layout.data + 2)
    #expect(long.execute(0x0f, 0x01, 0x18) == nil)
    #expect(cpu.pointee.idtr.base == 0xffff_8765_4321_0000 && cpu.pointee.idtr.limit == 0x1234)
    cpu.pointee.gpr.0 = Layout.data + 0x100
    #expect(long.execute(0x0f, 0x01, 0x08) == nil)
    #expect(long.load(Layout.data + 0x100, as: UInt16.self) == 0x1234)
    #expect(long.load(Layout.data + 0x102, as: UInt64.self) == 0xffff_8765_4321_0000)
    long.store(0x8000_0000_0000 as UInt64, Layout.data + 0x102)
    #expect(long.execute(0x0f, 0x01, 0x10) == .generalProtection())
    let test = TestProcessor(.protected32)
    test.cpu.pointee.gpr.0 = Layout.data
    test.store(0xf123_4567 as UInt32, Layout.data + 2)
    #expect(test.execute(0x0f, 0x01, 0x10) == nil && test.cpu.pointee.gdtr.base == 0xf123_4567)
    #expect(test.execute(0x66, 0x0f, 0x01, 0x10) == nil && test.cpu.pointee.gdtr.base == 0x23_4567)
    #expect(TestProcessor(.protected32, ring: 3).execute(0x0f, 0x01, 0x10) == .generalProtection())
  }

  @Test func userModeInstructionPrevention() {
    let codes: [[UInt8]] = [
      [0x0f, 0x01, 0x00], [0x0f, 0x01, 0x08], [0x0f, 0x00, 0xc0], [0x0f, 0x00, 0xc8], [0x0f, 0x01, 0xe0],
    ]
    for code in codes {
      for umip in [false, true] {
        for ring in [0, 3] {
          let test = TestProcessor(.long64, ring: ring)
          test.cpu.pointee.gpr.0 = Layout.data
          if umip { test.cpu.pointee.cr4 |= CR4.umip }
          #expect(test.execute(code) == (umip && ring == 3 ? .generalProtection() : nil))
        }
      }
    }
  }

  @Test func loadsOfTaskAndLocalTable() {
    for mode in [TestProcessor.Mode.protected32, .long64] {
      for access in UInt8(0)...255 {
        let test = TestProcessor(mode)
        test.setDescriptor(Entry.scratch, TestProcessor.segment(base: 0x1234, limit: 0x67, access: access, flags: 0))
        test.setDescriptor(Entry.scratch + 1, 0)
        let error = UInt32(Entry.scratch * 8)
        test.cpu.pointee.gpr.0 = UInt64(error)
        let type = access & 0x1f
        let isTask = type == 9 || (type == 1 && mode == .protected32)
        let isPresent = access & 0x80 != 0
        let absent = GuestFault.segmentNotPresent(error)
        #expect(
          test.execute(0x0f, 0x00, 0xd8) == (!isTask ? .generalProtection(error) : isPresent ? nil : absent))
        if isTask, isPresent {
          #expect(test.cpu.pointee.tr.base == 0x1234 && test.descriptor(Entry.scratch) >> 41 & 1 == 1)
        }
        test.setDescriptor(Entry.scratch, TestProcessor.segment(base: 0x1234, limit: 0x67, access: access, flags: 0))
        #expect(
          test.execute(0x0f, 0x00, 0xd0) == (type != 2 ? .generalProtection(error) : isPresent ? nil : absent))
      }
    }
    let test = TestProcessor(.long64)
    test.cpu.pointee.gpr.0 = 0
    #expect(test.execute(0x0f, 0x00, 0xd8) == .generalProtection() && test.execute(0x0f, 0x00, 0xd0) == nil)
    #expect(test.cpu.pointee.ldtr.attributes == 0)
    test.cpu.pointee.gpr.0 = 4
    #expect(test.execute(0x0f, 0x00, 0xd8) == .generalProtection(4))
    // The upper half of the base, which must be canonical; a table that ends in it.
    test.setDescriptor(Entry.scratch, TestProcessor.segment(base: 0x1234, limit: 0x67, access: 0x89, flags: 0))
    test.setDescriptor(Entry.scratch + 1, 0xffff_8000)
    test.cpu.pointee.gpr.0 = UInt64(Entry.scratch * 8)
    #expect(test.execute(0x0f, 0x00, 0xd8) == nil && test.cpu.pointee.tr.base == 0xffff_8000_0000_1234)
    test.setTask(Entry.scratch, 0x1234)
    test.setDescriptor(Entry.scratch + 1, 0x8000)
    #expect(test.execute(0x0f, 0x00, 0xd8) == .generalProtection(UInt32(Entry.scratch * 8)))
    test.cpu.pointee.gdtr.limit = UInt32(Entry.scratch * 8 + 14)
    #expect(test.execute(0x0f, 0x00, 0xd8) == .generalProtection(UInt32(Entry.scratch * 8)))
    for mode in [TestProcessor.Mode.real, .virtual8086] {
      #expect(TestProcessor(mode).execute(0x0f, 0x00, 0xd8) == .invalidOpcode)
    }
    #expect(TestProcessor(.long64, ring: 3).execute(0x0f, 0x00, 0xd8) == .generalProtection())
  }

  /// LAR, LSL, VERR and VERW by type, ring and RPL (SDM vol. 2A, tables of LAR and LSL).
  @Test func inspection() {
    for mode in [TestProcessor.Mode.protected32, .long64] {
      for ring in [0, 3] {
        let test = TestProcessor(mode, ring: ring)
        for access in UInt8(0)...255 {
          for rpl in [0, 2] {
            let raw = TestProcessor.segment(limit: 0x1_2345, access: access, flags: 0xc)
            test.setDescriptor(Entry.scratch, raw)
            test.setDescriptor(Entry.scratch + 1, 0)
            test.cpu.pointee.gpr.1 = UInt64(TestProcessor.selector(Entry.scratch, rpl))
            let type = access & 0x1f
            let dpl = Int(access >> 5 & 3)
            let isVisible = type & 0x1c == 0x1c || (dpl >= ring && dpl >= rpl)
            let systems: [UInt8] = mode == .long64 ? [2, 9, 11, 12] : [1, 2, 3, 4, 5, 9, 11, 12]
            let hasRights = isVisible && (type & 0x10 != 0 || systems.contains(type))
            let hasLimit =
              isVisible && (type & 0x10 != 0 || systems.filter { ![4, 5, 12].contains($0) }.contains(type))
            func zf() -> Bool { test.cpu.pointee.rflags & RFLAGS.zf != 0 }
            test.cpu.pointee.gpr.0 = 0x77
            #expect(test.execute(0x0f, 0x02, 0xc1) == nil && zf() == hasRights, "LAR \(access)")
            #expect(test.cpu.pointee.gpr.0 == (hasRights ? raw >> 32 & 0xff_ff00 : 0x77))
            test.cpu.pointee.gpr.0 = 0x77
            #expect(test.execute(0x0f, 0x03, 0xc1) == nil && zf() == hasLimit, "LSL \(access)")
            #expect(test.cpu.pointee.gpr.0 == (hasLimit ? 0x1234_5fff : 0x77))
            let isReadable = type & 0x18 == 0x10 || type & 0x1a == 0x1a
            #expect(test.execute(0x0f, 0x00, 0xe1) == nil && zf() == (isVisible && isReadable), "VERR \(access)")
            let isWritable = type & 0x1a == 0x12
            #expect(test.execute(0x0f, 0x00, 0xe9) == nil && zf() == (isVisible && isWritable), "VERW \(access)")
            test.cpu.pointee.rip = Layout.code
          }
        }
        for selector in [0, 3, 0x800, 0x44] as [UInt64] {
          test.cpu.pointee.gpr.1 = selector
          #expect(test.execute(0x0f, 0x02, 0xc1) == nil && test.cpu.pointee.rflags & RFLAGS.zf == 0)
        }
      }
    }
    #expect(TestProcessor(.virtual8086).execute(0x0f, 0x02, 0xc1) == .invalidOpcode)
  }

  @Test func adjustRPL() {
    let test = TestProcessor(.protected32)
    for a in UInt64(0)..<4 {
      for b in UInt64(0)..<4 {
        test.cpu.pointee.gpr.1 = 0x1230 | a
        test.cpu.pointee.gpr.0 = 0x4560 | b
        #expect(test.execute(0x63, 0xc1) == nil)
        #expect(test.cpu.pointee.gpr.1 == 0x1230 | max(a, b))
        #expect((test.cpu.pointee.rflags & RFLAGS.zf != 0) == (a < b))
      }
    }
  }
}
