import CHost
import Testing
import X86

@testable import Processor

struct SystemCallTests {
  typealias Layout = TestProcessor.Layout

  static func prepare(_ mode: TestProcessor.Mode, ring: Int, vendor: CPUModel.Vendor = .intel) -> TestProcessor {
    let test = TestProcessor(mode, ring: ring, model: CPUModel(vendor: vendor))
    test.cpu.pointee.efer |= EFER.sce
    test.cpu.pointee.star = 0x0033_0010_1234_5678
    test.cpu.pointee.lstar = 0xffff_8000_0000_1000
    test.cpu.pointee.cstar = 0xffff_8000_0000_2000
    test.cpu.pointee.fmask = RFLAGS.if | RFLAGS.tf | RFLAGS.df | RFLAGS.ac
    test.cpu.pointee.sysenterCS = 0x20
    test.cpu.pointee.sysenterESP = 0xffff_8000_0000_4000
    test.cpu.pointee.sysenterEIP = 0xffff_8000_0000_3000
    return test
  }

  static let syscall: [UInt8] = [0x0f, 0x05]
  static let sysretq: [UInt8] = [0x48, 0x0f, 0x07]

  @Test func syscallAndBack() {
    let test = Self.prepare(.long64, ring: 3)
    let cpu = test.cpu
    cpu.pointee.rflags |= RFLAGS.if | RFLAGS.cf | RFLAGS.df | RFLAGS.rf
    #expect(test.execute(Self.syscall) == nil)
    #expect(cpu.pointee.rip == 0xffff_8000_0000_1000 && cpu.pointee.gpr.1 == Layout.code + 2)
    #expect(cpu.pointee.gpr.11 == RFLAGS.fixed | RFLAGS.if | RFLAGS.cf | RFLAGS.df)
    #expect(cpu.pointee.rflags == RFLAGS.fixed | RFLAGS.cf && cpu.pointee.cpl == 0)
    #expect(cpu.pointee.segments.1.selector == 0x10 && cpu.pointee.segments.1.attributes == 0xa09b)
    #expect(cpu.pointee.segments.2.selector == 0x18 && cpu.pointee.segments.2.attributes == 0xc093)
    #expect(cpu.pointee.gpr.4 == Layout.stack)
    #expect(!test.processor.codeMode.contains(.unprivileged))

    cpu.pointee.gpr.11 = ~0
    #expect(test.execute(Self.sysretq) == nil)
    #expect(cpu.pointee.rip == Layout.code + 2 && cpu.pointee.cpl == 3)
    #expect(cpu.pointee.rflags == 0x3c_7fd7)
    #expect(cpu.pointee.segments.1.selector == 0x43 && cpu.pointee.segments.1.attributes == 0xa0fb)
    #expect(cpu.pointee.segments.2.selector == 0x3b && cpu.pointee.segments.2.attributes == 0xc0f3)
    #expect(test.processor.codeMode.contains(.unprivileged) && test.processor.codeMode.contains(.code64))
  }

  @Test func sysretToCompatibilityMode() {
    let test = Self.prepare(.long64, ring: 0)
    test.cpu.pointee.gpr.1 = 0x1234_5678_9abc
    #expect(test.execute(0x0f, 0x07) == nil)
    #expect(test.cpu.pointee.rip == 0x5678_9abc && test.cpu.pointee.segments.1.selector == 0x33)
    #expect(!test.processor.isLongMode64 && test.processor.codeMode.contains(.code32))
  }

  @Test func faults() {
    let disabled = Self.prepare(.long64, ring: 3)
    disabled.cpu.pointee.efer &= ~EFER.sce
    #expect(disabled.execute(Self.syscall) == .invalidOpcode)
    #expect(disabled.execute(Self.sysretq) == .invalidOpcode)
    #expect(Self.prepare(.long64, ring: 3).execute(Self.sysretq) == .generalProtection())
    let wild = Self.prepare(.long64, ring: 0)
    wild.cpu.pointee.gpr.1 = 0x8000_0000_0000
    #expect(wild.execute(Self.sysretq) == .generalProtection() && wild.cpu.pointee.cpl == 0)
    let amd = Self.prepare(.long64, ring: 0, vendor: .amd)
    amd.cpu.pointee.gpr.1 = 0x8000_0000_0000
    #expect(amd.execute(Self.sysretq) == nil && amd.cpu.pointee.cpl == 3)
    for mode in [TestProcessor.Mode.compatibility, .protected32, .real] {
      #expect(Self.prepare(mode, ring: 0).execute(Self.syscall) == .invalidOpcode)
    }
  }

  @Test func amdOutside64BitMode() {
    let compatible = Self.prepare(.compatibility, ring: 3, vendor: .amd)
    #expect(compatible.execute(Self.syscall) == nil)
    #expect(compatible.cpu.pointee.rip == 0xffff_8000_0000_2000 && compatible.processor.isLongMode64)
    let legacy = Self.prepare(.protected32, ring: 3, vendor: .amd)
    legacy.cpu.pointee.rflags |= RFLAGS.if
    #expect(legacy.execute(Self.syscall) == nil)
    #expect(legacy.cpu.pointee.rip == 0x1234_5678 && legacy.cpu.pointee.rflags & RFLAGS.if == 0)
    #expect(legacy.execute(0x0f, 0x07) == nil)
    #expect(legacy.cpu.pointee.rip == Layout.code + 2 && legacy.cpu.pointee.rflags & RFLAGS.if != 0)
    #expect(legacy.cpu.pointee.cpl == 3 && legacy.cpu.pointee.segments.1.selector == 0x33)
  }

  @Test func sysenter() {
    let test = Self.prepare(.protected32, ring: 3)
    let cpu = test.cpu
    cpu.pointee.rflags |= RFLAGS.if | RFLAGS.cf
    #expect(test.execute(0x0f, 0x34) == nil)
    #expect(cpu.pointee.rip == 0x3000 && cpu.pointee.gpr.4 == 0x4000 && cpu.pointee.cpl == 0)
    #expect(cpu.pointee.segments.1.selector == 0x20 && cpu.pointee.segments.2.selector == 0x28)
    #expect(cpu.pointee.rflags == RFLAGS.fixed | RFLAGS.cf)
    cpu.pointee.gpr.1 = 0x7000
    cpu.pointee.gpr.2 = 0x6000
    #expect(test.execute(0x0f, 0x35) == nil)
    #expect(cpu.pointee.rip == 0x6000 && cpu.pointee.gpr.4 == 0x7000 && cpu.pointee.cpl == 3)
    #expect(cpu.pointee.segments.1.selector == 0x33 && cpu.pointee.segments.2.selector == 0x3b)
    #expect(test.execute(0x0f, 0x35) == .generalProtection())

    let long = Self.prepare(.long64, ring: 3)
    #expect(long.execute(0x0f, 0x34) == nil)
    #expect(long.cpu.pointee.rip == 0xffff_8000_0000_3000 && long.processor.isLongMode64)
    long.cpu.pointee.gpr.1 = 0x7fff_0000_0000
    long.cpu.pointee.gpr.2 = 0x8000_0000_0000
    #expect(long.execute(0x48, 0x0f, 0x35) == .generalProtection())
    long.cpu.pointee.gpr.2 = 0x7ffe_0000_0000
    #expect(long.execute(0x48, 0x0f, 0x35) == nil)
    #expect(long.cpu.pointee.segments.1.selector == 0x43 && long.cpu.pointee.segments.2.selector == 0x4b)
    #expect(long.cpu.pointee.rip == 0x7ffe_0000_0000 && long.processor.isLongMode64)

    let none = Self.prepare(.protected32, ring: 3)
    none.cpu.pointee.sysenterCS = 3
    #expect(none.execute(0x0f, 0x34) == .generalProtection())
    #expect(Self.prepare(.long64, ring: 3, vendor: .amd).execute(0x0f, 0x34) == .invalidOpcode)
  }

  @Test func swapsAndBases() {
    let test = TestProcessor(.long64)
    let cpu = test.cpu
    cpu.pointee.kernelGSBase = 0x1111
    cpu.pointee.segments.5.base = 0x2222
    #expect(test.execute(0x0f, 0x01, 0xf8) == nil)
    #expect(cpu.pointee.kernelGSBase == 0x2222 && cpu.pointee.segments.5.base == 0x1111)
    #expect(TestProcessor(.long64, ring: 3).execute(0x0f, 0x01, 0xf8) == .generalProtection())
    cpu.pointee.gpr.0 = 0x8000_0000_0000
    #expect(test.execute(0xf3, 0x48, 0x0f, 0xae, 0xd8) == .invalidOpcode, "CR4.FSGSBASE is clear")
    cpu.pointee.cr4 |= CR4.fsgsbase
    #expect(test.execute(0xf3, 0x48, 0x0f, 0xae, 0xd8) == .generalProtection())
    cpu.pointee.gpr.0 = 0x7fff_1234_5678
    #expect(test.execute(0xf3, 0x48, 0x0f, 0xae, 0xd8) == nil && cpu.pointee.segments.5.base == 0x7fff_1234_5678)
    #expect(test.execute(0xf3, 0x0f, 0xae, 0xd0) == nil && cpu.pointee.segments.4.base == 0x1234_5678)
    #expect(test.execute(0xf3, 0x48, 0x0f, 0xae, 0xc9) == nil && cpu.pointee.gpr.1 == 0x7fff_1234_5678)
  }
}
