import TestSupport
import Testing

@testable import Devices

/// IA32_APIC_BASE and x2APIC mode (SDM vol. 3A, 11.12).
@Suite struct X2APICTests {
  @Test func transitions() throws {
    let bench = try APICBench()
    let base: UInt64 = 0xfee0_0100
    let (enable, extend): (UInt64, UInt64) = (1 << 11, 1 << 10)
    #expect(!bench.writeMSR(0x1b, base | extend))
    #expect(bench.writeMSR(0x1b, base | enable | extend))
    #expect(!bench.writeMSR(0x1b, base | extend))
    #expect(!bench.writeMSR(0x1b, base | enable))
    #expect(bench.writeMSR(0x1b, base | enable | extend))
    #expect(bench.writeMSR(0x1b, base))
    #expect(!bench.writeMSR(0x1b, base | extend))
    #expect(!bench.writeMSR(0x1b, base | enable | extend))
    #expect(bench.writeMSR(0x1b, base | enable))
    #expect(bench.readMSR(0x1b) == base | enable)
  }

  @Test(arguments: [0, 1, 7, 9, 40, 63]) func reservedBitsOfTheBase(bit: UInt64) throws {
    let bench = try APICBench()
    #expect(!bench.writeMSR(0x1b, 0xfee0_0900 | 1 << bit))
    #expect(bench.readMSR(0x1b) == 0xfee0_0900)
  }

  @Test func withoutX2APICTheBitIsReserved() throws {
    let fabric = InterruptFabric(cpuCount: 1, supportsX2APIC: false)
    let platform = try FakePlatform()
    _ = platform.start(fabric)
    #expect(!fabric.writeMSR(0x1b, value: 0xfee0_0d00, cpu: 0))
  }

  @Test func theDisabledPageReadsAllOnes() throws {
    for isExtended in [false, true] {
      let bench = try APICBench()
      bench.fabric.setTaskPriority(5, cpu: 0)
      #expect(bench.writeMSR(0x1b, isExtended ? 0xfee0_0d00 : 0xfee0_0100))
      for offset: UInt64 in stride(from: 0, to: 0x1000, by: 4) { bench.write(offset, 0xffff_ffff) }
      #expect(bench.read(0x30) == 0xffff_ffff)
      #expect(bench.fabric.read(region: 0, offset: 0x80, size: 1) == 0xff)
      #expect(bench.fabric.taskPriority(cpu: 0) == 5)
      bench.fabric.setTaskPriority(10, cpu: 0)
      #expect(bench.fabric.taskPriority(cpu: 0) == 10)
      #expect(bench.fabric.registerPage(cpu: 0) == nil)
    }
  }

  @Test func enablingInitialisesTheRegisters() throws {
    let bench = try APICBench(cpuCount: 2)
    bench.write(0x20, 7 << 24, cpu: 1)
    bench.write(0x80, 0x33, cpu: 1)
    bench.writeMSR(0x1b, 0xfee0_0000, cpu: 1)
    bench.writeMSR(0x1b, 0xfee0_0800, cpu: 1)
    #expect(bench.read(0x20, cpu: 1) == 1 << 24)
    #expect(bench.read(0x80, cpu: 1) == 0)
    #expect(bench.read(0xf0, cpu: 1) == 0xff)
  }

  @Test func theBaseCanMove() throws {
    let bench = try APICBench(cpuCount: 2)
    #expect(bench.writeMSR(0x1b, 0xfed4_0900))
    #expect(bench.fabric.registerPage(cpu: 0) == 0xfed4_0000)
    #expect(bench.fabric.registerPage(cpu: 1) == 0xfee0_0000)
    #expect(bench.read(0x30) == 0xffff_ffff)
    #expect(bench.read(0x30, cpu: 1) == 0x0105_0014)
    bench.fabric.currentCPU = 0
    #expect(bench.fabric.read(region: 1, offset: 0x30, size: 4) == 0x0105_0014)
  }

  @Test func registersAreThoseOfXAPICMode() throws {
    let bench = try APICBench(cpuCount: 20)
    bench.enterX2APIC(cpu: 18)
    #expect(bench.readMSR(0x802, cpu: 18) == 18)
    #expect(bench.readMSR(0x803, cpu: 18) == 0x0105_0014)
    #expect(bench.readMSR(0x80d, cpu: 18) == 1 << 16 | 1 << 2)
    #expect(bench.readMSR(0x80f, cpu: 18) == 0x1ff)
    #expect(bench.writeMSR(0x83f, 0x61, cpu: 18))
    #expect(bench.readMSR(0x823, cpu: 18) == 2)
    #expect(bench.fabric.acknowledge(cpu: 18) == 0x61)
    #expect(bench.readMSR(0x813, cpu: 18) == 2 && bench.readMSR(0x80a, cpu: 18) == 0x60)
    #expect(bench.writeMSR(0x80b, 0, cpu: 18))
    #expect(bench.readMSR(0x813, cpu: 18) == 0)
    #expect(bench.writeMSR(0x838, 500, cpu: 18) && bench.readMSR(0x839, cpu: 18) == 500)
  }

  /// What each register refuses: reads, writes, and reserved bits.
  @Test(arguments: 0x800...0x8ff as ClosedRange<UInt32>) func refusals(index: UInt32) throws {
    let bench = try APICBench()
    #expect(bench.readMSR(index) == nil && !bench.writeMSR(index, 0), "only in x2APIC mode")
    bench.enterX2APIC()
    let localVectors: ClosedRange<UInt32> = 0x832...0x837
    let readable: Set<UInt32> = [0x802, 0x803, 0x808, 0x80a, 0x80d, 0x80f, 0x828, 0x830, 0x838, 0x839, 0x83e]
    let writable: [UInt32: UInt64] = [
      0x808: 0xff, 0x80b: 0, 0x80f: 0x13ff, 0x828: 0, 0x830: 0xffff_ffff_000c_dfff, 0x832: 0x710ff, 0x833: 0x117ff,
      0x834: 0x117ff, 0x835: 0x1f7ff, 0x836: 0x1f7ff, 0x837: 0x110ff, 0x838: 0xffff_ffff, 0x83e: 0xb, 0x83f: 0xff,
    ]
    let isReadable = readable.contains(index) || localVectors ~= index || 0x810...0x827 ~= index
    #expect((bench.readMSR(index) != nil) == isReadable)
    guard let bits = writable[index] else {
      #expect(!bench.writeMSR(index, 0))
      return
    }
    #expect(bench.writeMSR(index, 0))
    for bit: UInt64 in 0..<64 {
      let isDefined = bits & 1 << bit != 0
      #expect(bench.writeMSR(index, 1 << bit) == isDefined, "bit \(bit)")
    }
  }

  @Test func otherRegistersAreNotOurs() throws {
    let bench = try APICBench()
    for index: UInt32 in [0, 0x10, 0x1a, 0x1c, 0x6df, 0x6e1, 0x7ff, 0x900, 0xc000_0080] {
      #expect(bench.readMSR(index) == nil && !bench.writeMSR(index, 0))
    }
  }
}
