import TestSupport
import Testing

@testable import Devices

/// ICR and destinations (SDM vol. 3A, 11.6).
@Suite struct InterprocessorInterruptTests {
  /// Which processors of `bench` have `vector` waiting; it is taken from them.
  private func receivers(_ bench: APICBench, _ vector: UInt8 = 0x60) -> [Int] {
    (0..<bench.fabric.cpuCount).filter { cpu in
      guard bench.fabric.acknowledge(cpu: cpu) == vector else { return false }
      if bench.fabric.registerPage(cpu: cpu) != nil {
        bench.endOfInterrupt(cpu: cpu)
      } else {
        bench.writeMSR(0x80b, 0, cpu: cpu)
      }
      return true
    }
  }

  @Test func physicalDestinations() throws {
    let bench = try APICBench(cpuCount: 4)
    for cpu in 0..<4 {
      bench.command(0x4060, destination: UInt32(cpu))
      #expect(receivers(bench) == [cpu])
    }
    bench.command(0x4060, destination: 4)
    #expect(receivers(bench) == [])
    bench.command(0x4060, destination: 0xff, cpu: 2)
    #expect(receivers(bench) == [0, 1, 2, 3])
    #expect(bench.read(0x300, cpu: 2) == 0x4060, "delivery status is always idle")
    #expect(bench.read(0x310, cpu: 2) == 0xff00_0000)
  }

  @Test func aChangedIdentifierIsTheDestination() throws {
    let bench = try APICBench(cpuCount: 2)
    bench.write(0x20, 0x42 << 24, cpu: 0)
    bench.write(0x20, 0x42 << 24, cpu: 1)
    bench.command(0x4060, destination: 0x42)
    #expect(receivers(bench) == [0, 1])
    bench.command(0x4060, destination: 1)
    #expect(receivers(bench) == [])
  }

  @Test func shorthands() throws {
    let bench = try APICBench(cpuCount: 3)
    bench.command(0x44060, cpu: 1)
    #expect(receivers(bench) == [1])
    bench.command(0x84060, cpu: 1)
    #expect(receivers(bench) == [0, 1, 2])
    bench.command(0xc4060, cpu: 1)
    #expect(receivers(bench) == [0, 2])
  }

  @Test func flatLogicalDestinations() throws {
    let bench = try APICBench(cpuCount: 3)
    for cpu in 0..<3 { bench.write(0xd0, 1 << UInt32(24 + cpu), cpu: cpu) }
    for mask: UInt32 in 0..<0xff {
      bench.command(0x4860, destination: mask)
      #expect(receivers(bench) == (0..<3).filter { mask & 1 << UInt32($0) != 0 })
    }
    bench.write(0xd0, 0, cpu: 1)
    bench.command(0x4860, destination: 0xff)
    #expect(receivers(bench) == [0, 1, 2], "all ones is everybody")
  }

  @Test func clusterLogicalDestinations() throws {
    let bench = try APICBench(cpuCount: 4)
    for (cpu, logical) in [0x11, 0x12, 0x21, 0x38].enumerated() {
      bench.write(0xe0, 0x0fff_ffff, cpu: cpu)
      bench.write(0xd0, UInt32(logical) << 24, cpu: cpu)
    }
    let expectations = [(0x11, [0]), (0x13, [0, 1]), (0x2f, [2]), (0x38, [3]), (0x41, []), (0xff, [0, 1, 2, 3])]
    for (destination, expected) in expectations {
      bench.command(0x4860, destination: UInt32(destination))
      #expect(receivers(bench) == expected, "destination \(destination)")
    }
  }

  @Test func x2APICDestinations() throws {
    let bench = try APICBench(cpuCount: 20)
    for cpu in 0..<20 { bench.enterX2APIC(cpu: cpu) }
    func send(_ low: UInt64, _ destination: UInt64) -> [Int] {
      #expect(bench.writeMSR(0x830, destination << 32 | low))
      return receivers(bench)
    }
    #expect(send(0x60, 17) == [17])
    #expect(send(0x60, 0xff) == [])
    #expect(send(0x60, 0xffff_ffff) == Array(0..<20))
    #expect(send(0x860, 0x0000_0005) == [0, 2])
    #expect(send(0x860, 0x0001_000a) == [17, 19])
    #expect(send(0x860, 0x0002_0001) == [])
    #expect(send(0x860, 0xffff_ffff) == Array(0..<20))
    #expect(send(0xc0060, 0) == Array(1..<20))
    #expect(bench.readMSR(0x830) == 0xc0060)
  }

  @Test func broadcastsReachBothModes() throws {
    let bench = try APICBench(cpuCount: 3)
    bench.enterX2APIC(cpu: 0)
    bench.writeMSR(0x830, 0xffff_ffff_0000_4060)
    #expect(receivers(bench) == [0, 1, 2])
    bench.writeMSR(0x830, 0x0000_0001_0000_4060)
    #expect(receivers(bench) == [1])
    bench.command(0x4060, destination: 0xff, cpu: 1)
    #expect(receivers(bench) == [0, 1, 2])
  }

  @Test func lowestPriorityTakesTurns() throws {
    let bench = try APICBench(cpuCount: 4)
    var counts = [0, 0, 0, 0]
    for _ in 0..<40 {
      bench.command(0x4160, destination: 0xff)
      let taken = receivers(bench)
      #expect(taken.count == 1)
      for cpu in taken { counts[cpu] += 1 }
    }
    #expect(counts == [10, 10, 10, 10])
    for cpu in 0..<4 { bench.write(0x80, cpu == 2 ? 0x10 : 0x20, cpu: cpu) }
    for _ in 0..<3 {
      bench.command(0x4160, destination: 0xff)
      #expect(receivers(bench) == [2])
    }
    bench.write(0xf0, 0xff, cpu: 2)
    bench.command(0x4160, destination: 2)
    #expect(receivers(bench) == [], "a disabled APIC does not take part")
    bench.command(0xc4160, cpu: 0)
    bench.command(0xc4160, cpu: 0)
    #expect(receivers(bench) == [1, 3])
  }

  @Test func nonMaskableInitializeAndStartUp() throws {
    let bench = try APICBench(cpuCount: 3)
    bench.write(0x80, 0x50, cpu: 1)
    bench.command(0x44067, destination: 1)
    bench.write(0x20, 5 << 24, cpu: 1)
    _ = bench.target.takeEvents()
    bench.command(0x4400, destination: 0xff)
    #expect(bench.target.takeEvents() == (0..<3).map { .nonMaskableInterrupt(cpu: $0) })
    bench.command(0x4500, destination: 5)
    #expect(bench.target.takeEvents() == [.initialize(cpu: 1)])
    #expect(bench.read(0x80, cpu: 1) == 0 && bench.read(0xf0, cpu: 1) == 0xff)
    #expect(bench.read(0x20, cpu: 1) == 5 << 24, "INIT keeps the ID")
    #expect(bench.fabric.apicBase(cpu: 1) == 0xfee0_0800)
    bench.command(0x8500, destination: 5)
    bench.command(0xc8500)
    #expect(bench.target.takeEvents() == [], "INIT level de-assert does nothing")
    bench.command(0xc4699)
    #expect(bench.target.takeEvents() == [.startUp(cpu: 1, vector: 0x99), .startUp(cpu: 2, vector: 0x99)])
    bench.command(0x44500)
    bench.command(0x84500)
    #expect(bench.target.takeEvents() == [.initialize(cpu: 1), .initialize(cpu: 2)], "never to oneself by shorthand")
    bench.command(0x44400)
    #expect(bench.target.takeEvents() == [.nonMaskableInterrupt(cpu: 0)])
    bench.command(0x4200, destination: 1)
    bench.command(0x4300, destination: 1)
    #expect(bench.target.takeEvents() == [])
  }

  @Test func initializeKeepsX2APICMode() throws {
    let bench = try APICBench(cpuCount: 2)
    bench.enterX2APIC(cpu: 1)
    bench.writeMSR(0x832, 0x40, cpu: 1)
    bench.writeMSR(0x838, 1000, cpu: 1)
    bench.command(0x4500, destination: 1)
    #expect(bench.readMSR(0x802, cpu: 1) == 1 && bench.readMSR(0x832, cpu: 1) == 0x10000)
    #expect(bench.clock.nextDeadline == nil)
  }
}
