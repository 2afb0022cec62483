import CHost
import Machine
import Testing
import X86

@testable import Processor

struct PortTests {
  typealias Layout = TestProcessor.Layout

  static func answer(_ value: UInt64) -> ExitCompletion {
    ExitCompletion(data: value, isValid: 1, isRefused: 0, reserved: (0, 0, 0, 0, 0, 0))
  }

  @Test func inputAndOutput() {
    let test = TestProcessor(.long64)
    let cpu = test.cpu
    cpu.pointee.gpr.0 = 0x1122_3344_5566_7788
    cpu.pointee.gpr.2 = 0x1_03f8
    for (code, port, size) in [
      ([0xe4, 0x80] as [UInt8], UInt16(0x80), 1), ([0x66, 0xe5, 0x80], 0x80, 2), ([0xe5, 0xff], 0xff, 4),
      ([0xec], 0x3f8, 1), ([0x66, 0xed], 0x3f8, 2), ([0xed], 0x3f8, 4),
    ] {
      cpu.pointee.gpr.0 = 0x1122_3344_5566_7788
      #expect(test.execute(code) == .exit && test.processor.pendingExits.next() == .portRead(port: port, size: size))
      test.processor.replay.append(Self.answer(0xaabb_ccdd))
      #expect(test.execute(code) == nil)
      let want: UInt64 = size == 4 ? 0xaabb_ccdd : size == 2 ? 0x1122_3344_5566_ccdd : 0x1122_3344_5566_77dd
      #expect(cpu.pointee.gpr.0 == want)
    }
    cpu.pointee.gpr.0 = 0x1122_3344_5566_7788
    for (code, port, size, value) in [
      ([0xe6, 0x80] as [UInt8], UInt16(0x80), 1, UInt32(0x88)), ([0x66, 0xe7, 0xfe], 0xfe, 2, 0x7788),
      ([0xef], 0x3f8, 4, 0x5566_7788), ([0xee], 0x3f8, 1, 0x88),
    ] {
      #expect(test.execute(code) == nil)
      #expect(test.processor.pendingExits.next() == .portWrite(port: port, size: size, value: value))
    }
  }

  /// IOPL and the bit map.
  @Test func permissions() {
    for mode in [TestProcessor.Mode.protected32, .long64, .virtual8086] {
      for iopl in UInt64(0)..<4 {
        for (port, size) in [(UInt64(0x40), 1), (0x41, 1), (0x3f, 2), (0x40, 4), (0x47, 2), (0x3ff, 1), (0x400, 1)] {
          let test = TestProcessor(mode, ring: mode == .virtual8086 ? 0 : 3)
          test.cpu.pointee.rflags |= iopl << 12
          // All closed but 40H and 42H to 47H; the map ends behind port 3F7H.
          let map = Layout.tss + 0x88
          for index in UInt64(0)..<0x80 { test.store(0xff as UInt8, map + index) }
          test.store(0x02 as UInt8, map + 8)
          test.cpu.pointee.tr.limit = 0x88 + 0x7f
          test.cpu.pointee.gpr.2 = port
          let is16 = mode == .virtual8086
          let code: [UInt8] = size == 1 ? [0xee] : (size == 2) != is16 ? [0x66, 0xef] : [0xef]
          let isOpen = port == 0x40 && size == 1
          let isAllowed = (iopl == 3 && mode != .virtual8086) || isOpen
          #expect(test.execute(code) == (isAllowed ? nil : .generalProtection()), "\(mode) iopl \(iopl) port \(port)")
        }
      }
    }
    let test = TestProcessor(.protected32, ring: 3)
    test.cpu.pointee.tr.limit = 0x66
    #expect(test.execute(0xee) == .generalProtection())
    #expect(TestProcessor(.real).execute(0xee) == nil)
  }

  @Test func strings() {
    let test = TestProcessor(.long64)
    let cpu = test.cpu
    cpu.pointee.gpr.1 = 3
    cpu.pointee.gpr.2 = 0x1f0
    cpu.pointee.gpr.7 = Layout.data
    for number in UInt64(0)..<3 {
      #expect(test.execute(0xf3, 0x66, 0x6d) == .exit)
      #expect(test.processor.pendingExits.next() == .portRead(port: 0x1f0, size: 2))
      test.processor.replay.append(Self.answer(0x1000 + number))
      #expect(test.execute(0xf3, 0x66, 0x6d) == nil)
      #expect(test.load(Layout.data + 2 * number, as: UInt16.self) == UInt16(0x1000 + number))
      #expect(cpu.pointee.gpr.1 == 2 - number && cpu.pointee.gpr.7 == Layout.data + 2 + 2 * number)
      #expect(cpu.pointee.rip == (number == 2 ? Layout.code + 3 : Layout.code))
    }
    cpu.pointee.rip = Layout.code
    #expect(test.execute(0xf3, 0x66, 0x6d) == nil && cpu.pointee.rip == Layout.code + 3, "RCX is zero")
    // Downwards; 32-bit addresses; the port is not read where memory cannot be written.
    cpu.pointee.rflags |= RFLAGS.df
    cpu.pointee.gpr.6 = Layout.data + 4 | 1 << 40
    #expect(test.execute(0x67, 0x6f) == nil)
    #expect(test.processor.pendingExits.next() == .portWrite(port: 0x1f0, size: 4, value: 0x1002))
    #expect(cpu.pointee.gpr.6 == Layout.data)
    cpu.pointee.gpr.7 = 0x30_0000
    #expect(test.execute(0x6c) == .pageFault(address: 0x30_0000, errorCode: 2))
    #expect(test.processor.pendingExits.next() == nil)
    // A segment override.
    cpu.pointee.segments.4.base = 2
    cpu.pointee.gpr.6 = Layout.data
    #expect(test.execute(0x64, 0x6e) == nil)
    #expect(test.processor.pendingExits.next() == .portWrite(port: 0x1f0, size: 1, value: 0x01))
  }

  @Test func breakpoints() {
    let test = TestProcessor(.long64)
    test.cpu.pointee.dr.0 = 0x3f8
    test.cpu.pointee.dr7 = 0x2_0402
    test.cpu.pointee.gpr.2 = 0x3f8
    for usesExtensions in [false, true] {
      if usesExtensions { test.cpu.pointee.cr4 |= CR4.de }
      #expect(test.processor.beginStep() == nil && test.execute(0xee) == nil)
      test.processor.endStep()
      #expect(test.cpu.pointee.pendingDebug == (usesExtensions ? 1 : 0))
    }
  }
}
