import Machine
import TestSupport
import Testing

@testable import Devices

/// The ways into the fabric from outside the processors: LINT0 and the 8259, LINT1, MSI; and snapshots.
@Suite struct InterruptFabricTests {
  /// Initialises the 8259 pair for vectors 0x20 and 0x28 with all inputs open.
  private func initializePIC(_ bench: APICBench) {
    for (region, base, cascade) in [(0, 0x20, 4), (1, 0x28, 2)] {
      bench.pic.write(region: region, offset: 0, size: 1, value: 0x11)
      for word in [base, cascade, 1, 0] {
        bench.pic.write(region: region, offset: 1, size: 1, value: UInt64(word))
      }
    }
  }

  @Test func virtualWire() throws {
    let bench = try APICBench(cpuCount: 2, isEnabled: false)
    initializePIC(bench)
    bench.pic.line(3).set(true)
    #expect(bench.fabric.pendingVector(cpu: 0) == nil, "LINT0 is masked after power-up")
    bench.fabric.enableVirtualWire()
    #expect(bench.read(0xf0) == 0x1ff && bench.read(0x350) == 0x700 && bench.read(0x360) == 0x400)
    #expect(bench.target.takeEvents() == [.interruptsChanged(cpu: 0)])
    #expect(bench.fabric.pendingVector(cpu: 0) == 0x23)
    #expect(bench.fabric.pendingVector(cpu: 1) == nil)
    // It passes by the APIC's priorities and leaves no trace in them.
    bench.write(0x80, 0xff)
    #expect(bench.fabric.acknowledge(cpu: 0) == 0x23)
    #expect(bench.fabric.pendingVector(cpu: 0) == nil)
    #expect(bench.read(0x110) == 0)
    bench.pic.line(3).set(false)
    bench.pic.write(region: 0, offset: 0, size: 1, value: 0x20)
    bench.pic.line(9).set(true)
    #expect(bench.fabric.acknowledge(cpu: 0) == 0x29)
    bench.write(0x350, 0x10700)
    #expect(bench.fabric.pendingVector(cpu: 0) == nil)
  }

  @Test func withoutAPICThePinsAreINTRAndNMI() throws {
    let bench = try APICBench()
    initializePIC(bench)
    bench.writeMSR(0x1b, 0xfee0_0100)
    _ = bench.target.takeEvents()
    bench.pic.line(1).set(true)
    #expect(bench.target.takeEvents() == [.interruptsChanged(cpu: 0)])
    #expect(bench.fabric.acknowledge(cpu: 0) == 0x21)
    bench.fabric.line1.pulse()
    #expect(bench.target.takeEvents() == [.nonMaskableInterrupt(cpu: 0)])
    bench.fabric.sendMessageSignalled(address: 0xfee0_0000, data: 0x50)
    #expect(bench.fabric.acknowledge(cpu: 0) == nil)
  }

  @Test func linesWithOtherDeliveryModes() throws {
    let bench = try APICBench()
    let line0 = bench.fabric.line0
    bench.write(0x350, 0x400)
    line0.set(true)
    line0.set(true)
    line0.set(false)
    #expect(bench.target.takeEvents() == [.nonMaskableInterrupt(cpu: 0)], "the NMI watchdog's way")
    bench.write(0x350, 0x71)
    line0.pulse()
    #expect(bench.drain() == [0x71])
    bench.write(0x360, 0x8072)
    bench.fabric.line1.pulse()
    #expect(bench.drain() == [0x72], "LINT1 is edge-triggered whatever bit 15 says")
    bench.write(0x350, 0x500)
    line0.pulse()
    #expect(bench.target.takeEvents().last == .initialize(cpu: 0))
  }

  @Test func levelTriggeredLine0() throws {
    let bench = try APICBench()
    let line0 = bench.fabric.line0
    line0.set(true)
    bench.write(0x350, 0x18071)
    #expect(bench.drain() == [])
    bench.write(0x350, 0x8071)
    #expect(bench.read(0x350) == 0xc071, "remote IRR")
    #expect(bench.fabric.acknowledge(cpu: 0) == 0x71)
    line0.set(false)
    line0.set(true)
    #expect(bench.fabric.pendingVector(cpu: 0) == nil)
    bench.endOfInterrupt()
    #expect(bench.fabric.acknowledge(cpu: 0) == 0x71, "still asserted")
    line0.set(false)
    bench.endOfInterrupt()
    #expect(bench.fabric.pendingVector(cpu: 0) == nil && bench.read(0x350) == 0x8071)
  }

  @Test func messageSignalledInterrupts() throws {
    let bench = try APICBench(cpuCount: 4)
    for cpu in 0..<4 { bench.write(0xd0, 1 << UInt32(24 + cpu), cpu: cpu) }
    func send(_ address: UInt64, _ data: UInt32) -> [[UInt8]] {
      bench.fabric.sendMessageSignalled(address: address, data: data)
      return (0..<4).map { bench.drain(cpu: $0) }
    }
    #expect(send(0xfee0_2000, 0x0051) == [[], [], [0x51], []])
    #expect(send(0xfeef_f000, 0x4051) == [[0x51], [0x51], [0x51], [0x51]])
    #expect(send(0xfee0_5004, 0x0051) == [[0x51], [], [0x51], []])
    #expect(send(0xfee0_5004, 0xc051) == [[0x51], [], [0x51], []])
    #expect(send(0xfee0_5004, 0x8051) == [[], [], [], []], "deassertion of a level")
    #expect(send(0xfed0_5004, 0x0051) == [[], [], [], []])
    #expect(send(1 << 32 | 0xfee0_2000, 0x0051) == [[], [], [], []])
    let first = send(0xfee0_500c, 0x0051).map(\.count)
    let second = send(0xfee0_5004, 0x0151).map(\.count)
    #expect(first.reduce(0, +) == 1 && second.reduce(0, +) == 1 && first != second, "one of both, in turn")
    _ = bench.target.takeEvents()
    bench.fabric.sendMessageSignalled(address: 0xfee0_1000, data: 0x0400)
    #expect(bench.target.takeEvents() == [.nonMaskableInterrupt(cpu: 1)])
  }

  @Test func externalInterruptMessages() throws {
    let bench = try APICBench(cpuCount: 2)
    initializePIC(bench)
    // A PC that wires the 8259 to I/O APIC pin 0 in ExtINT mode, for the second processor.
    bench.redirect(0, 0x0100_0000_0000_0700)
    bench.pic.line(4).set(true)
    bench.ioapic.line(0).set(true)
    #expect(bench.fabric.pendingVector(cpu: 0) == nil)
    #expect(bench.fabric.acknowledge(cpu: 1) == 0x24)
    #expect(bench.fabric.pendingVector(cpu: 1) == nil)
  }

  @Test func snapshotKeepsTimersAndLines() throws {
    let bench = try APICBench(cpuCount: 2)
    bench.write(0x3e0, 0b1011)
    bench.write(0x320, 0x200ee)
    bench.write(0x380, 100_000)
    bench.enterX2APIC(cpu: 1)
    bench.writeMSR(0x832, 0x400ef, cpu: 1)
    bench.writeMSR(0x6e0, 500_000, cpu: 1)
    bench.command(0x4055, destination: 0)
    bench.fabric.line0.set(true)
    bench.clock.advance(by: 30_000)
    let copy = try APICBench(cpuCount: 2, isEnabled: false, clock: FakeClock(now: bench.clock.now))
    try transfer(from: bench.fabric, to: copy.fabric)
    #expect(copy.target.takeEvents().contains(.interruptsChanged(cpu: 0)))
    for each in [bench, copy] {
      #expect(each.read(0x390) == 70_000)
      #expect(each.drain() == [0x55])
      each.clock.advance(by: 70_000)
      #expect(each.drain() == [0xee])
      #expect(each.readMSR(0x6e0, cpu: 1) == 500_000)
      each.clock.advance(by: 150_000)
      #expect(each.fabric.acknowledge(cpu: 1) == 0xef)
      #expect(each.readMSR(0x80d, cpu: 1) == 2)
      each.write(0x350, 0x8060)
      #expect(each.drain().first == 0xee || each.drain().first == 0x60)
    }
  }

  /// The same random accesses after a snapshot do the same to the original and to the copy.
  @Test(arguments: 1...8 as ClosedRange<UInt64>) func randomSnapshots(seed: UInt64) throws {
    var random = SeededRandom(seed: seed)
    let bench = try APICBench(cpuCount: 3)
    for _ in 0..<400 { _ = perturb(bench, &random) }
    let copy = try APICBench(cpuCount: 3, isEnabled: false, clock: FakeClock(now: bench.clock.now))
    try transfer(from: bench.pic, to: copy.pic)
    try transfer(from: bench.ioapic, to: copy.ioapic)
    try transfer(from: bench.fabric, to: copy.fabric)
    _ = bench.target.takeEvents()
    _ = copy.target.takeEvents()
    var sameRandom = random
    for step in 0..<600 {
      #expect(perturb(bench, &random) == perturb(copy, &sameRandom), "step \(step)")
      #expect(bench.target.takeEvents() == copy.target.takeEvents(), "step \(step)")
    }
  }

  /// One random thing that a guest or a device may do; what it gave.
  private func perturb(_ bench: APICBench, _ random: inout SeededRandom) -> [UInt64] {
    let cpu = Int.random(in: 0..<3, using: &random)
    let register = UInt64.random(in: 0..<0x40, using: &random)
    let value = random.next() >> random.next() % 64
    bench.fabric.currentCPU = cpu
    switch random.next() % 9 {
    case 0: return [bench.fabric.read(region: 0, offset: register << 4, size: 4)]
    case 1: bench.fabric.write(region: 0, offset: register << 4, size: 4, value: value)
    case 2: return [bench.fabric.readMSR(0x800 + UInt32(register), cpu: cpu) ?? 0xdead]
    case 3: return [bench.fabric.writeMSR(0x800 + UInt32(register), value: value, cpu: cpu) ? 1 : 0]
    case 4:
      let vector = bench.fabric.acknowledge(cpu: cpu).map { UInt64($0) } ?? 0x100
      bench.write(0xb0, 0, cpu: cpu)
      return [vector]
    case 5: bench.redirect(register % 24, value)
    case 6: bench.ioapic.line(Int(register % 24)).set(value & 1 != 0)
    case 7: bench.pic.line(Int(register % 16)).set(value & 1 != 0)
    default:
      bench.clock.advance(by: value % 100_000)
      bench.write(0xf0, 0x1ff, cpu: cpu)
    }
    return (0..<3).map { bench.fabric.pendingVector(cpu: $0).map { UInt64($0) } ?? 0x100 }
  }
}
