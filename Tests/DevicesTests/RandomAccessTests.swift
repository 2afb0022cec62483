import Machine
import TestSupport
import Testing

@testable import Devices

/// A guest writes random values to every register, at every offset and size and far beyond: nothing may trap, and reads
/// must fit their size.
@Suite struct RandomAccessTests {
  /// Offsets that a bus could pass: small ones mostly, page-sized ones, anything.
  private func offset(_ random: inout SeededRandom) -> UInt64 {
    switch random.next() % 4 {
    case 0: random.next() % 4
    case 1: (random.next() % 0x40) << 4
    case 2: random.next() % 0x1100
    default: random.next() >> (random.next() % 64)
    }
  }

  private func value(_ random: inout SeededRandom) -> UInt64 {
    switch random.next() % 4 {
    case 0: random.next() % 256
    case 1: [0, 1, 0xffff_ffff, .max, 1 << 31, 1 << 63][Int(random.next() % 6)]
    default: random.next() >> (random.next() % 64)
    }
  }

  private func pound(_ device: some Device, regions: Int, _ random: inout SeededRandom) {
    let size = 1 << Int(random.next() % 4)
    let region = Int(random.next() % UInt64(regions + 1))
    let offset = offset(&random)
    if random.next() % 3 == 0 {
      _ = device.read(region: region, offset: offset, size: size)
    } else {
      device.write(region: region, offset: offset, size: size, value: value(&random))
    }
  }

  @Test(arguments: 1...4 as ClosedRange<UInt64>) func everything(seed: UInt64) throws {
    var random = SeededRandom(seed: seed)
    // Late and near the end of time.
    let clock = FakeClock(now: seed == 4 ? .max - 1 << 40 : seed << 40)
    let bench = try APICBench(cpuCount: 5, clock: clock)
    let pit = bench.platform.start(PIT(line: bench.pic.line(0)))
    let rtc = bench.platform.start(RTC(line: bench.pic.line(8)))
    for _ in 0..<60_000 {
      let cpu = Int(random.next() % 5)
      bench.fabric.currentCPU = random.next() % 64 == 0 ? 99 : cpu
      switch random.next() % 14 {
      case 0, 1, 2: pound(bench.fabric, regions: 2, &random)
      case 3: pound(bench.ioapic, regions: 1, &random)
      case 4: bench.writeIOAPIC(value(&random), UInt32(truncatingIfNeeded: value(&random)))
      case 5: pound(bench.pic, regions: 3, &random)
      case 6: pound(pit, regions: 2, &random)
      case 7: pound(rtc, regions: 1, &random)
      case 8:
        let index = [0x1b, 0x6e0, 0x800 + UInt32(random.next() % 0x40), UInt32(truncatingIfNeeded: random.next())]
        bench.writeMSR(index[Int(random.next() % 4)], value(&random), cpu: cpu)
        _ = bench.readMSR(index[Int(random.next() % 4)], cpu: cpu)
      case 9:
        bench.ioapic.line(Int(random.next() % 24)).set(random.next() & 1 != 0)
        bench.pic.line(Int(random.next() % 16)).set(random.next() & 1 != 0)
      case 10:
        bench.fabric.sendMessageSignalled(
          address: 0xfee0_0000 | value(&random) & 0xf_ffff, data: UInt32(truncatingIfNeeded: value(&random)))
      case 11:
        _ = bench.fabric.pendingVector(cpu: cpu)
        _ = bench.fabric.acknowledge(cpu: cpu)
        bench.fabric.setTaskPriority(value(&random), cpu: cpu)
        bench.fabric.setTimeStampOffset(value(&random), cpu: cpu)
      case 12:
        // Bring processors back to a mode in which things happen.
        bench.writeMSR(0x1b, 0xfee0_0800, cpu: cpu)
        bench.write(0xf0, 0x1ff, cpu: cpu)
      default: clock.advance(by: random.next() % (1 << (random.next() % 24)))
      }
    }
    _ = bench.target.takeEvents()
  }

  /// Power-on state, whatever happened before.
  @Test func reset() throws {
    var random = SeededRandom(seed: 77)
    let used = try APICBench(cpuCount: 2)
    let fresh = try APICBench(cpuCount: 2, isEnabled: false)
    for _ in 0..<5000 {
      used.fabric.currentCPU = Int(random.next() % 2)
      pound(used.fabric, regions: 1, &random)
      used.redirect(random.next() % 24, value(&random))
      pound(used.pic, regions: 3, &random)
    }
    used.pic.reset()
    used.ioapic.reset()
    used.fabric.reset()
    #expect(used.clock.nextDeadline == nil)
    for cpu in 0..<2 {
      for register: UInt64 in 2..<0x40 {
        #expect(used.read(register << 4, cpu: cpu) == fresh.read(register << 4, cpu: cpu), "register \(register)")
      }
    }
    for register: UInt64 in 0..<0x40 { #expect(used.readIOAPIC(register) == fresh.readIOAPIC(register)) }
    for region in 0..<3 {
      for offset: UInt64 in 0..<2 {
        #expect(
          used.pic.read(region: region, offset: offset, size: 1)
            == fresh.pic.read(region: region, offset: offset, size: 1))
      }
    }
  }

  /// A snapshot of another shape does not lead outside anything.
  @Test func damagedSnapshots() throws {
    let bench = try APICBench()
    var state = bench.ioapic.save()
    state.entries = [0xc050]
    bench.ioapic.restore(state)
    #expect(bench.readIOAPIC(0x3e) == 0x10000)
    let rtc = bench.platform.start(RTC(line: .unconnected))
    var clockState = rtc.save()
    clockState.bytes = []
    clockState.dividerStart = .max / 2
    rtc.restore(clockState)
    #expect(rtc.read(region: 0, offset: 1, size: 1) == 0)
    let pit = bench.platform.start(PIT(line: .unconnected))
    var timerState = pit.save()
    timerState.ports = []
    pit.restore(timerState)
    _ = pit.read(region: 1, offset: 0, size: 1)
    var fabricState = bench.fabric.save()
    fabricState.apics = []
    fabricState.nextLowestPriority = -5
    bench.fabric.restore(fabricState)
    bench.command(0x4160, destination: 0xff)
    #expect(bench.drain() == [0x60])
  }
}
