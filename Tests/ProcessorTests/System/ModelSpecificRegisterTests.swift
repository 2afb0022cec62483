import CHost
import Machine
import Testing
import X86

@testable import Processor

struct ModelSpecificRegisterTests {
  typealias MSR = ModelSpecificRegister
  typealias Layout = TestProcessor.Layout

  static func write(_ test: TestProcessor, _ index: UInt32, _ value: UInt64) -> GuestFault? {
    test.cpu.pointee.gpr.1 = UInt64(index) | 0xffff_ffff_0000_0000
    test.cpu.pointee.gpr.0 = value & 0xffff_ffff
    test.cpu.pointee.gpr.2 = value >> 32
    return test.execute(0x0f, 0x30)
  }

  static func read(_ test: TestProcessor, _ index: UInt32) -> UInt64? {
    test.cpu.pointee.gpr.1 = UInt64(index)
    test.cpu.pointee.gpr.0 = ~0
    test.cpu.pointee.gpr.2 = ~0
    guard test.execute(0x0f, 0x32) == nil else { return nil }
    return test.cpu.pointee.gpr.0 | test.cpu.pointee.gpr.2 << 32
  }

  @Test func valuesAreKept() {
    let test = TestProcessor(.long64)
    let canonical: UInt64 = 0xffff_8123_4567_89ab
    let cases: [(UInt32, UInt64)] = [
      (MSR.fsBase, canonical), (MSR.gsBase, canonical), (MSR.kernelGSBase, canonical), (MSR.star, ~0),
      (MSR.lstar, canonical), (MSR.cstar, canonical), (MSR.fmask, 0xffff_ffff), (MSR.timeStampAuxiliary, 0x1234),
      (MSR.sysenterCS, 0x10), (MSR.sysenterESP, canonical), (MSR.sysenterEIP, canonical),
      (MSR.pageAttributeTable, 0x0407_0506_0100_0600), (MSR.mtrrDefaultType, 0xc06), (0x200, 0x8000_0006),
      (0x201, 0xff_8000_0800), (0x20f, 0xff_8000_0800), (0x250, 0x0606_0606_0606_0606), (0x259, 0x0101_0101_0101_0101),
      (0x26f, 0x0505_0505_0505_0505), (MSR.machineCheckControl, ~0), (0x400, ~0), (0x424, 0),
      (MSR.speculationControl, 1), (MSR.debugControl, 3), (MSR.timeStampAdjust, 0x1234_5678),
    ]
    for (index, value) in cases {
      #expect(Self.write(test, index, value) == nil, "\(index)")
      #expect(Self.read(test, index) == value, "\(index)")
    }
    #expect(test.cpu.pointee.segments.4.base == canonical)
  }

  @Test func refusals() {
    let test = TestProcessor(.long64)
    let wild: UInt64 = 0x8000_0000_0000
    let cases: [(UInt32, UInt64)] = [
      (MSR.fsBase, wild), (MSR.gsBase, wild), (MSR.kernelGSBase, wild), (MSR.lstar, wild), (MSR.cstar, wild),
      (MSR.sysenterESP, wild), (MSR.sysenterEIP, wild), (MSR.fmask, 1 << 32), (MSR.timeStampAuxiliary, 1 << 32),
      (MSR.pageAttributeTable, 2), (MSR.pageAttributeTable, 0x0300), (MSR.pageAttributeTable, 8 << 56),
      (MSR.mtrrDefaultType, 0x2), (MSR.mtrrDefaultType, 0x1006), (0x200, 7), (0x200, 0x106), (0x200, 1 << 40),
      (0x201, 1), (0x250, 0x02), (0x26f, 0x07 << 56), (MSR.mtrrCapabilities, 0), (MSR.machineCheckCapabilities, 0),
      (MSR.machineCheckStatus, 1), (MSR.machineCheckControl, 1), (0x401, 1), (MSR.speculationControl, 2),
      (MSR.predictionCommand, 2), (MSR.debugControl, 4), (MSR.architecturalCapabilities, 0),
    ]
    for (index, value) in cases {
      let old = Self.read(test, index)
      #expect(Self.write(test, index, value) == .generalProtection(), "\(index)")
      #expect(Self.read(test, index) == old)
      _ = test.processor.pendingExits.next()
    }
    let user = TestProcessor(.long64, ring: 3)
    #expect(Self.write(user, MSR.lstar, 0) == .generalProtection() && Self.read(user, MSR.lstar) == nil)
  }

  /// Wide addresses, whatever the paging mode, if the model has them.
  @Test func wideAddresses() {
    let wide: UInt64 = 0xffaa_aaaa_aaaa_aaaa
    for level in [CPUModel.Level.v3, .max] {
      let test = TestProcessor(.long64, model: CPUModel(level: level))
      for index in [MSR.fsBase, MSR.gsBase, MSR.kernelGSBase, MSR.lstar, MSR.cstar] {
        #expect((Self.write(test, index, wide) == nil) == (level == .max))
        #expect(Self.write(test, index, 0xaaaa_aaaa_aaaa_aaaa) == .generalProtection())
      }
      test.store(0xff as UInt16, Layout.data)
      test.store(wide, Layout.data + 2)
      test.cpu.pointee.gpr.0 = Layout.data
      #expect((test.execute(0x0f, 0x01, 0x10) == nil) == (level == .max), "LGDT [RAX]")
    }
  }

  @Test func efer() {
    for bit in UInt64(0)..<64 {
      let test = TestProcessor(.protected32)
      let isLegal = [0, 8, 10, 11].contains(bit)
      #expect(Self.write(test, MSR.efer, 1 << bit) == (isLegal ? nil : .generalProtection()), "bit \(bit)")
      #expect(test.cpu.pointee.efer == (isLegal && bit != 10 ? 1 << bit : 0))
    }
  }

  /// The local APIC's registers, and unknown ones, leave the engine and come back answered.
  @Test func answersFromOutside() {
    for index in [0x1b, 0x6e0, 0x80b, 0x1234, 0xc001_1234] as [UInt32] {
      let test = TestProcessor(.long64)
      #expect(Self.read(test, index) == nil)
      #expect(test.processor.pendingExits.next() == .msrRead(index: index))
      test.processor.replay.append(
        ExitCompletion(data: 0x55_0000_0066, isValid: 1, isRefused: 0, reserved: (0, 0, 0, 0, 0, 0)))
      #expect(Self.read(test, index) == 0x55_0000_0066)
      #expect(Self.write(test, index, 0x77) == .exit)
      #expect(test.processor.pendingExits.next() == .msrWrite(index: index, value: 0x77))
      test.processor.replay.append(ExitCompletion(data: 0, isValid: 1, isRefused: 1, reserved: (0, 0, 0, 0, 0, 0)))
      #expect(Self.write(test, index, 0x77) == .generalProtection())
    }
  }

  @Test func timeStamps() {
    let test = TestProcessor(.long64)
    #expect(Self.write(test, MSR.timeStampCounter, 0x100_0000_0000) == nil)
    #expect(test.processor.pendingExits.next() == .timeStampMoved)
    let now = Self.read(test, MSR.timeStampCounter)!
    #expect(now >= 0x100_0000_0000 && now < 0x110_0000_0000)
    let adjusted = test.cpu.pointee.tscAdjust
    #expect(Self.write(test, MSR.timeStampAdjust, adjusted &+ 0x1000_0000_0000) == nil)
    #expect(test.processor.pendingExits.next() == .timeStampMoved)
    #expect(Self.read(test, MSR.timeStampCounter)! >= 0x1100_0000_0000)
    test.cpu.pointee.tscAux = 7
    #expect(test.execute(0x0f, 0x01, 0xf9) == nil && test.cpu.pointee.gpr.1 == 7)
    #expect(test.execute(0xf3, 0x0f, 0xc7, 0xfb) == nil && test.cpu.pointee.gpr.3 == 7)
    test.cpu.pointee.intercepts = .timeStampCounter
    #expect(test.execute(0x0f, 0x31) == .exit)
    #expect(test.processor.pendingExits.next() == .timeStampRead)
    let user = TestProcessor(.long64, ring: 3)
    #expect(user.execute(0x0f, 0x31) == nil)
    user.cpu.pointee.cr4 |= CR4.tsd
    #expect(user.execute(0x0f, 0x31) == .generalProtection() && user.execute(0x0f, 0x01, 0xf9) == .generalProtection())
    #expect(user.execute(0x0f, 0x33) == .generalProtection())
  }

  @Test func amdRegisters() {
    let test = TestProcessor(.long64, model: CPUModel(vendor: .amd))
    #expect(Self.read(test, MSR.amdHardwareConfiguration) == 1 << 24)
    #expect(Self.read(test, MSR.amdDecodeConfiguration) == 2)
    #expect(Self.write(test, MSR.amdSystemConfiguration, ~0) == nil)
    #expect(Self.write(test, MSR.efer, test.cpu.pointee.efer | 1 << 21) == nil, "automatic IBRS")
    for index in MSR.amdPerformanceCounters {
      #expect(Self.write(test, index, 0xabcd) == nil && Self.read(test, index) == 0, "counts nothing")
    }
    #expect(Self.read(TestProcessor(.long64), MSR.amdHardwareConfiguration) == nil)
    #expect(Self.read(TestProcessor(.long64), MSR.architecturalCapabilities) == CPUModel().architecturalCapabilities)
  }
}
