import CHost
import Testing
import X86

@testable import Processor

struct ControlRegisterTests {
  typealias Layout = TestProcessor.Layout

  /// MOV CRn, RAX.
  static func set(_ test: TestProcessor, _ number: UInt8, _ value: UInt64) -> GuestFault? {
    test.cpu.pointee.gpr.0 = value
    return test.execute(number == 8 ? [0x44, 0x0f, 0x22, 0xc0] : [0x0f, 0x22, 0xc0 | number << 3])
  }

  @Test func cr0() {
    let test = TestProcessor(.protected32)
    let base = CR0.pe | CR0.et
    for bit in UInt64(0)..<32 {
      test.cpu.pointee.cr3 = 0x2_0000
      #expect(test.cpu.pointee.cr0 & CR0.et != 0)
      let value = base ^ 1 << bit
      let isLegal = bit != 29 && bit != 31 || false
      let fault = Self.set(test, 0, value)
      if bit == 31 {
        // Paging by tables of zeros: legal, and off again at once.
        #expect(fault == nil)
        test.cpu.pointee.cr0 = base
        test.processor.stateChanged()
      } else {
        #expect(fault == (isLegal ? nil : .generalProtection()), "bit \(bit)")
        let kept = value & CR0.loadable | CR0.et
        if isLegal { #expect(test.cpu.pointee.cr0 == kept, "bit \(bit)") }
        #expect(Self.set(test, 0, base) == nil)
      }
    }
    #expect(Self.set(test, 0, CR0.pg) == .generalProtection(), "paging without protection")
    #expect(Self.set(test, 0, base | CR0.nw) == .generalProtection())
    #expect(Self.set(test, 0, base | CR0.nw | CR0.cd) == nil)
    let long = TestProcessor(.long64)
    let old = long.cpu.pointee.cr0
    #expect(Self.set(long, 0, old | 1 << 32) == .generalProtection())
    #expect(Self.set(long, 0, old & ~CR0.pg) == .generalProtection(), "not from 64-bit code")
    #expect(Self.set(TestProcessor(.long64, ring: 3), 0, old) == .generalProtection())
    let compatible = TestProcessor(.compatibility)
    #expect(Self.set(compatible, 0, old & ~CR0.pg) == nil)
    #expect(compatible.cpu.pointee.efer & EFER.lma == 0)
    #expect(Self.set(compatible, 0, old) == nil && compatible.cpu.pointee.efer & EFER.lma != 0)
  }

  /// From protected mode to 64-bit mode as an operating system goes.
  @Test func enteringLongMode() {
    let test = TestProcessor(.protected32)
    let cpu = test.cpu
    cpu.pointee.gpr.1 = UInt64(ModelSpecificRegister.efer)
    test.store(Layout.pageTables + 0x1000 | 7, Layout.pageTables)
    test.store(Layout.pageTables + 0x2000 | 7, Layout.pageTables + 0x1000)
    test.store(0xe7 as UInt64, Layout.pageTables + 0x2000)
    cpu.pointee.gpr.0 = EFER.lme
    cpu.pointee.gpr.2 = 0
    #expect(test.execute(0x0f, 0x30) == nil)
    #expect(Self.set(test, 3, Layout.pageTables) == nil)
    #expect(Self.set(test, 0, CR0.pg | CR0.pe) == .generalProtection(), "PAE is off")
    #expect(Self.set(test, 4, CR4.pae) == nil)
    #expect(Self.set(test, 0, CR0.pg | CR0.pe) == nil)
    #expect(cpu.pointee.efer == EFER.lme | EFER.lma && !test.processor.isLongMode64)
    FarTransferTests.point(test, UInt16(TestProcessor.Entry.code64 * 8))
    #expect(test.execute(FarTransferTests.jump) == nil && test.processor.isLongMode64)
    #expect(Self.set(test, 4, 0) == .generalProtection(), "PAE stays")
    cpu.pointee.gpr.0 = 0
    cpu.pointee.gpr.1 = UInt64(ModelSpecificRegister.efer)
    #expect(test.execute(0x0f, 0x30) == .generalProtection(), "LME stays")
  }

  @Test func cr4() {
    for (mode, forced) in [(TestProcessor.Mode.protected32, UInt64(0)), (.long64, CR4.pae)] {
      for bit in UInt64(0)..<64 where mode == .long64 || bit < 32 {
        let test = TestProcessor(mode)
        let value = forced ^ 1 << bit
        var isLegal = test.processor.model.controlRegister4Mask >> bit & 1 != 0
        if 1 << bit == CR4.pcide, mode == .protected32 { isLegal = false }
        if 1 << bit == CR4.pae, mode == .long64 { isLegal = false }
        #expect(Self.set(test, 4, value) == (isLegal ? nil : .generalProtection()), "\(mode) bit \(bit)")
        #expect(test.cpu.pointee.cr4 == (isLegal ? value : forced))
      }
    }
    let offered = CPUModel().controlRegister4Mask
    #expect(offered & (CR4.la57 | CR4.vmxe | CR4.smxe | CR4.pke | CR4.cet | CR4.pks) == 0)
    #expect(offered & CR4.smap != 0 && offered & CR4.umip != 0 && offered & CR4.fsgsbase != 0)
    let test = TestProcessor(.long64)
    #expect(Self.set(test, 3, Layout.pageTables | 1) == nil)
    #expect(Self.set(test, 4, CR4.pae | CR4.pcide) == .generalProtection(), "the PCID is not zero")
  }

  @Test func cr3() {
    let test = TestProcessor(.long64)
    for bit in UInt64(0)..<64 {
      let want: GuestFault? = bit >= 40 ? .generalProtection() : nil
      #expect(Self.set(test, 3, 1 << bit) == want, "bit \(bit)")
    }
    #expect(Self.set(test, 3, Layout.pageTables) == nil && Self.set(test, 4, CR4.pae | CR4.pcide) == nil)
    #expect(Self.set(test, 3, Layout.pageTables | 1 << 63 | 0x123) == nil)
    #expect(test.cpu.pointee.cr3 == Layout.pageTables | 0x123)
    #expect(Self.set(test, 0, test.cpu.pointee.cr0 & ~CR0.pg) == .generalProtection())
  }

  /// Without PCID every load of CR3 flushes; with it, one address space unless bit 63 says no.
  @Test func flushes() {
    let test = TestProcessor(.long64)
    let page: UInt64 = 0x7_0000
    // The identity map's page directory is replaced by a page table, so that one page can change.
    let table = Layout.pageTables + 0x3000
    for index in UInt64(0)..<512 { test.store(index << 12 | 0x67, table + index * 8) }
    test.store(table | 7, Layout.pageTables + 0x2000)
    func read() -> UInt64? { try? test.processor.load(page) }
    test.store(0x1111 as UInt64, 0x7_1000)
    test.store(0x2222 as UInt64, 0x7_2000)
    func check(_ want: UInt64, _ text: Comment) { #expect(read() == want, text) }
    func remap(_ target: UInt64) { test.store(target | 0x67, table + (page >> 12) * 8) }

    remap(0x7_1000)
    #expect(Self.set(test, 3, Layout.pageTables) == nil)
    check(0x1111, "first")
    remap(0x7_2000)
    check(0x1111, "still cached")
    #expect(Self.set(test, 3, Layout.pageTables) == nil)
    check(0x2222, "CR3 flushes")
    remap(0x7_1000)
    test.cpu.pointee.gpr.0 = page + 0x123
    #expect(test.execute(0x0f, 0x01, 0x38) == nil)
    check(0x1111, "INVLPG")
    #expect(Self.set(test, 4, CR4.pae | CR4.pcide) == nil)
    check(0x1111, "filled again")
    remap(0x7_2000)
    #expect(Self.set(test, 3, Layout.pageTables | 5) == nil)
    check(0x2222, "another PCID")
    remap(0x7_1000)
    #expect(Self.set(test, 3, Layout.pageTables | 1 << 63) == nil)
    check(0x1111, "PCID 0 is as it was")
    #expect(Self.set(test, 3, Layout.pageTables | 5 | 1 << 63) == nil)
    check(0x2222, "PCID 5 is as it was")
    #expect(Self.set(test, 3, Layout.pageTables) == nil)
    // INVPCID of PCID 5.
    test.store(5 as UInt64, Layout.data)
    test.store(0 as UInt64, Layout.data + 8)
    test.cpu.pointee.gpr.1 = Layout.data
    test.cpu.pointee.gpr.0 = 1
    #expect(test.execute(0x66, 0x0f, 0x38, 0x82, 0x01) == nil)
    #expect(Self.set(test, 3, Layout.pageTables | 5 | 1 << 63) == nil)
    check(0x1111, "INVPCID")
    for (type, pcid, want) in [
      (UInt64(4), UInt64(0), GuestFault.generalProtection()), (1, 0x1000, .generalProtection()),
    ] {
      test.store(pcid, Layout.data)
      test.cpu.pointee.gpr.0 = type
      #expect(test.execute(0x66, 0x0f, 0x38, 0x82, 0x01) == want)
    }
    test.store(5 as UInt64, Layout.data)
    test.store(0x8000_0000_0000 as UInt64, Layout.data + 8)
    test.cpu.pointee.gpr.0 = 0
    #expect(test.execute(0x66, 0x0f, 0x38, 0x82, 0x01) == .generalProtection())
  }

  /// PAE paging loads its pointers with CR3, and refuses reserved bits then.
  @Test func pageDirectoryPointers() {
    let test = TestProcessor(.protected32)
    let table: UInt64 = 0x5_0020
    test.cpu.pointee.cr4 = CR4.pae
    test.cpu.pointee.cr3 = table
    for index in UInt64(0)..<4 { test.store(0x5_1000 + index * 0x1000 | 1, table + index * 8) }
    for index in UInt64(0)..<4 { test.store(0xe3 as UInt64, 0x5_1000 + index * 0x1000) }
    #expect(Self.set(test, 0, CR0.pe | CR0.pg) == nil)
    #expect(test.cpu.pointee.pdpte.2 == 0x5_3001)
    for bit in UInt64(0)..<64 {
      test.store(0x5_1001 ^ (1 << bit), table)
      let isReserved = [1, 2, 5, 6, 7, 8].contains(bit) || bit >= 40
      #expect(Self.set(test, 3, table) == (isReserved ? .generalProtection() : nil), "bit \(bit)")
    }
    // Absent entries may hold anything.
    test.store(~1 as UInt64, table)
    #expect(Self.set(test, 3, table) == nil)
  }

  @Test func cr8AndOthers() {
    let test = TestProcessor(.long64)
    #expect(Self.set(test, 8, 9) == nil && test.cpu.pointee.cr8 == 9)
    #expect(test.processor.pendingExits.next() == nil)
    #expect(Self.set(test, 8, 3) == nil)
    #expect(test.processor.pendingExits.next() == .taskPriorityChanged)
    #expect(Self.set(test, 8, 16) == .generalProtection())
    #expect(Self.set(test, 2, 0x1234_5678_9abc_def0) == nil)
    #expect(test.execute(0x0f, 0x20, 0xd3) == nil && test.cpu.pointee.gpr.3 == 0x1234_5678_9abc_def0)
    #expect(Self.set(test, 1, 0) == .invalidOpcode && Self.set(test, 5, 0) == .invalidOpcode)
  }

  @Test func machineStatusWord() {
    let test = TestProcessor(.real)
    test.cpu.pointee.gpr.0 = 0xfff1
    #expect(test.execute(0x0f, 0x01, 0xf0) == nil)
    #expect(test.processor.isProtectedMode && test.cpu.pointee.cr0 == CR0.et | CR0.pe)
    test.cpu.pointee.gpr.0 = 0xe
    #expect(test.execute(0x0f, 0x01, 0xf0) == nil)
    #expect(test.cpu.pointee.cr0 == CR0.et | 0xf, "PE stays")
    #expect(test.execute(0x0f, 0x01, 0xe3) == nil && test.cpu.pointee.gpr.3 & 0xffff == 0x1f)
    #expect(test.execute(0x0f, 0x06) == nil && test.cpu.pointee.cr0 & CR0.ts == 0)
  }

  @Test func modesOfUnits() {
    let test = TestProcessor(.long64)
    #expect(test.processor.codeMode.contains(.x87) && !test.processor.codeMode.contains(.sse))
    #expect(Self.set(test, 4, CR4.pae | CR4.osfxsr | CR4.osxsave) == nil)
    #expect(CodeMode(rawValue: test.cpu.pointee.engine.blockKey).contains(.sse))
    #expect(Self.set(test, 0, test.cpu.pointee.cr0 | CR0.ts) == nil)
    #expect(!CodeMode(rawValue: test.cpu.pointee.engine.blockKey).contains(.x87))
    #expect(test.execute(0x0f, 0x06) == nil)
    #expect(CodeMode(rawValue: test.cpu.pointee.engine.blockKey).contains(.x87))
    // XSETBV.
    test.cpu.pointee.gpr.1 = 0
    test.cpu.pointee.gpr.2 = 0
    for (value, want) in [
      (UInt64(3), GuestFault?.none), (1, nil), (2, .generalProtection()), (0, .generalProtection()),
      (7, .generalProtection()),
    ] {
      test.cpu.pointee.gpr.0 = value
      #expect(test.execute(0x0f, 0x01, 0xd1) == want)
    }
    #expect(test.execute(0x0f, 0x01, 0xd0) == nil && test.cpu.pointee.gpr.0 == 1)
    let wide = TestProcessor(.long64, model: CPUModel(level: .v3))
    wide.cpu.pointee.cr4 |= CR4.osxsave | CR4.osfxsr
    wide.cpu.pointee.gpr.2 = 0
    for (value, want) in [(UInt64(7), GuestFault?.none), (5, .generalProtection()), (3, nil), (7, nil)] {
      wide.cpu.pointee.gpr.0 = value
      #expect(wide.execute(0x0f, 0x01, 0xd1) == want)
    }
    #expect(wide.processor.codeMode.contains(.avx))
    #expect(TestProcessor(.long64).execute(0x0f, 0x01, 0xd0) == .invalidOpcode)
  }
}
