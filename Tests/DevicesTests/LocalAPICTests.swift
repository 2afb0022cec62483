import TestSupport
import Testing

@testable import Devices

/// Registers, priorities and errors of the local APIC in xAPIC mode (SDM vol. 3A, 11.4 to 11.9).
@Suite struct LocalAPICTests {
  @Test func stateAfterPowerUp() throws {
    let bench = try APICBench(cpuCount: 3, isEnabled: false)
    #expect(bench.read(0x020, cpu: 2) == 2 << 24)
    #expect(bench.read(0x030) == 0x0105_0014)
    for offset: UInt64 in [0x80, 0xa0, 0xd0, 0x100, 0x180, 0x200, 0x270, 0x280, 0x300, 0x310, 0x380, 0x390, 0x3e0] {
      #expect(bench.read(offset) == 0, "offset \(offset)")
    }
    #expect(bench.read(0x0e0) == 0xffff_ffff)
    #expect(bench.read(0x0f0) == 0xff)
    for offset: UInt64 in stride(from: 0x320, through: 0x370, by: 0x10) { #expect(bench.read(offset) == 0x10000) }
    #expect(bench.readMSR(0x1b, cpu: 0) == 0xfee0_0900)
    #expect(bench.readMSR(0x1b, cpu: 1) == 0xfee0_0800)
  }

  @Test(arguments: [
    (0x020 as UInt64, 0xff00_0000 as UInt32), (0x030, 0), (0x080, 0xff), (0x090, 0), (0x0a0, 0), (0x0d0, 0xff00_0000),
    (0x0f0, 0x13ff), (0x100, 0), (0x180, 0), (0x200, 0), (0x310, 0xff00_0000), (0x320, 0x700ff), (0x330, 0x107ff),
    (0x340, 0x107ff), (0x350, 0x1a7ff), (0x360, 0x1a7ff), (0x370, 0x100ff), (0x390, 0), (0x3e0, 0xb),
  ]) func onlyDefinedBitsAreWritable(offset: UInt64, bits: UInt32) throws {
    let bench = try APICBench()
    let constant = bench.read(offset) & ~bits
    bench.write(offset, 0)
    let zeros = bench.read(offset)
    bench.write(0x0f0, 0x1ff)
    bench.write(offset, 0xffff_ffff)
    let ones = bench.read(offset)
    if offset == 0x080 {
      // PPR and APR follow.
      #expect(bench.read(0x0a0) == 0xff && bench.read(0x090) == 0xff)
    }
    let masked: UInt32 = offset == 0x0f0 ? 0 : zeros & bits
    #expect(masked == 0)
    #expect(ones & bits == bits)
    #expect(zeros & ~bits == constant & ~bits && ones & ~bits == constant & ~bits)
  }

  /// Where a processor reads its number, whatever it does with the register and the page; nowhere in the other modes.
  @Test func theNumberRegisterIsTheIdentifier() throws {
    let bench = try APICBench(cpuCount: 3)
    func number(_ cpu: Int) -> [UInt64]? {
      bench.fabric.numberRegister(cpu: cpu).map { [$0.address.rawValue, UInt64($0.value)] }
    }
    #expect(number(2) == [0xfee0_0020, 2 << 24])
    bench.write(0x20, 0x4200_0000, cpu: 2)
    #expect(number(2) == [0xfee0_0020, 0x4200_0000] && number(1) == [0xfee0_0020, 1 << 24])
    #expect(bench.fabric.writeMSR(0x1b, value: 0xfed0_0800, cpu: 1))
    #expect(number(1) == [0xfed0_0020, 1 << 24])
    #expect(bench.fabric.writeMSR(0x1b, value: 0xfee0_0c00, cpu: 2))
    #expect(number(2) == nil)
    #expect(bench.fabric.writeMSR(0x1b, value: 0, cpu: 1))
    #expect(number(1) == nil)
  }

  @Test func destinationFormatKeepsItsReservedOnes() throws {
    let bench = try APICBench()
    bench.write(0x0e0, 0)
    #expect(bench.read(0x0e0) == 0x0fff_ffff)
    bench.write(0x0e0, 0xf000_0000)
    #expect(bench.read(0x0e0) == 0xffff_ffff)
  }

  @Test func partsOfRegistersCanBeReadButNotWritten() throws {
    let bench = try APICBench()
    #expect(bench.fabric.read(region: 0, offset: 0x30, size: 1) == 0x14)
    #expect(bench.fabric.read(region: 0, offset: 0x32, size: 2) == 0x0105)
    #expect(bench.fabric.read(region: 0, offset: 0x34, size: 4) == 0)
    #expect(bench.fabric.read(region: 0, offset: 0x30, size: 8) == 0x0105_0014)
    bench.fabric.write(region: 0, offset: 0x80, size: 1, value: 0x20)
    bench.fabric.write(region: 0, offset: 0x84, size: 4, value: 0x20)
    #expect(bench.read(0x80) == 0)
  }

  @Test func higherVectorsInterruptLowerOnes() throws {
    let bench = try APICBench()
    for vector: UInt32 in [0x31, 0x52, 0x35] { bench.command(0x40000 | vector) }
    #expect(bench.fabric.pendingVector(cpu: 0) == 0x52)
    #expect(bench.fabric.pendingVector(cpu: 0) == 0x52, "looking has no side effect")
    #expect(bench.fabric.acknowledge(cpu: 0) == 0x52)
    #expect(bench.read(0x0a0) == 0x50)
    #expect(bench.fabric.pendingVector(cpu: 0) == nil)
    #expect(bench.fabric.acknowledge(cpu: 0) == nil)
    // One of the same class waits, one of a higher class does not.
    bench.command(0x40000 | 0x5f)
    #expect(bench.fabric.pendingVector(cpu: 0) == nil)
    bench.command(0x40000 | 0x60)
    #expect(bench.fabric.acknowledge(cpu: 0) == 0x60)
    #expect(bench.read(0x120) == 1 << 18 && bench.read(0x130) == 1)
    bench.endOfInterrupt()
    #expect(bench.read(0x130) == 0)
    bench.endOfInterrupt()
    #expect(bench.drain() == [0x5f, 0x35, 0x31])
  }

  @Test func taskPriorityHoldsBackItsClassAndLower() throws {
    let bench = try APICBench()
    bench.write(0x80, 0x4f)
    _ = bench.target.takeEvents()
    bench.command(0x40000 | 0x4f)
    #expect(bench.fabric.pendingVector(cpu: 0) == nil)
    #expect(bench.target.takeEvents().isEmpty, "nobody is woken for what is held back")
    bench.fabric.setTaskPriority(3, cpu: 0)
    #expect(bench.target.takeEvents() == [.interruptsChanged(cpu: 0)])
    #expect(bench.read(0x80) == 0x30)
    #expect(bench.fabric.taskPriority(cpu: 0) == 3)
    #expect(bench.fabric.acknowledge(cpu: 0) == 0x4f)
    // PPR: the higher of both classes; the task priority's low digit only where it wins.
    bench.write(0x80, 0x37)
    #expect(bench.read(0xa0) == 0x40)
    bench.write(0x80, 0x47)
    #expect(bench.read(0xa0) == 0x47)
  }

  @Test func oneVectorIsRememberedTwice() throws {
    let bench = try APICBench()
    for _ in 0..<3 { bench.command(0x40000 | 0x77) }
    #expect(bench.fabric.acknowledge(cpu: 0) == 0x77)
    bench.command(0x40000 | 0x77)
    bench.command(0x40000 | 0x77)
    bench.endOfInterrupt()
    #expect(bench.drain() == [0x77])
  }

  @Test func softwareDisableMasksTheLocalVectors() throws {
    let bench = try APICBench()
    bench.write(0x320, 0x40)
    bench.command(0x40000 | 0x50)
    bench.write(0xf0, 0xff)
    #expect(bench.read(0x320) == 0x10040)
    bench.write(0x320, 0x41)
    #expect(bench.read(0x320) == 0x10041)
    bench.command(0x40000 | 0x60)
    // What was accepted before is still served; what came after is not.
    #expect(bench.drain() == [0x50])
    bench.command(0x40400)
    #expect(bench.target.takeEvents().last == .nonMaskableInterrupt(cpu: 0))
    bench.write(0xf0, 0x1ff)
    #expect(bench.read(0x320) == 0x10041)
  }

  @Test func errorsAreLatchedByWritingTheStatusRegister() throws {
    let bench = try APICBench()
    bench.write(0x370, 0xe1)
    // A vector below 16: the sender sees it, and the receiver, which is the same.
    bench.command(0x40000 | 0x0f)
    #expect(bench.read(0x280) == 0)
    #expect(bench.drain() == [0xe1])
    _ = bench.read(0x2f0)
    #expect(bench.drain() == [], "not again before the register was written")
    bench.write(0x280, 0)
    #expect(bench.read(0x280) == 0xe0)
    _ = bench.read(0x3f0)
    #expect(bench.drain() == [0xe1])
    bench.write(0x280, 0)
    #expect(bench.read(0x280) == 0x80)
    bench.write(0x280, 0)
    #expect(bench.read(0x280) == 0)
  }

  @Test func anIllegalErrorVectorDoesNotRecur() throws {
    let bench = try APICBench()
    bench.write(0x370, 0x05)
    bench.write(0x2f0, 0)
    bench.write(0x280, 0)
    #expect(bench.read(0x280) == 0xc0)
    #expect(bench.drain() == [])
  }

  @Test func levelTriggeredEndsAreBroadcastUnlessSuppressed() throws {
    let bench = try APICBench()
    final class Ended { var vectors: [UInt8] = [] }
    let ended = Ended()
    bench.fabric.observeEndOfInterrupt { ended.vectors.append($0) }
    var message = InterruptMessage(
      vector: 0x51, deliveryMode: .fixed, destination: 0, isLogical: false, isLevelTriggered: true)
    for isLevel in [false, true, false, true] {
      message.isLevelTriggered = isLevel
      #expect(bench.fabric.send(message))
      #expect(bench.read(0x1a0) == (isLevel ? 1 << 17 : 0))
      #expect(bench.drain() == [0x51])
    }
    #expect(ended.vectors == [0x51, 0x51])
    bench.write(0xf0, 0x11ff)
    bench.fabric.send(message)
    #expect(bench.drain() == [0x51])
    #expect(ended.vectors.count == 2)
  }

  @Test func performanceInterruptMasksItself() throws {
    let bench = try APICBench()
    bench.write(0x340, 0x400)
    bench.fabric.signal(.performanceCounter, cpu: 0)
    bench.fabric.signal(.performanceCounter, cpu: 0)
    #expect(bench.target.takeEvents() == [.nonMaskableInterrupt(cpu: 0)])
    #expect(bench.read(0x340) == 0x10400)
    bench.write(0x330, 0x91)
    bench.fabric.signal(.thermalSensor, cpu: 0)
    #expect(bench.drain() == [0x91])
  }
}
