import TestSupport
import Testing

@testable import Devices

@Suite struct IOAPICTests {
  private static let level: UInt64 = 1 << 15
  private static let masked: UInt64 = 1 << 16

  @Test func registers() throws {
    let bench = try APICBench()
    #expect(bench.readIOAPIC(1) == 0x0017_0020)
    bench.writeIOAPIC(1, 0xffff_ffff)
    #expect(bench.readIOAPIC(1) == 0x0017_0020)
    bench.writeIOAPIC(0, 0xffff_ffff)
    #expect(bench.readIOAPIC(0) == 0x0f00_0000 && bench.readIOAPIC(2) == 0x0f00_0000)
    bench.writeIOAPIC(2, 0)
    #expect(bench.readIOAPIC(2) == 0x0f00_0000)
    #expect(bench.readIOAPIC(3) == 0xffff_ffff && bench.readIOAPIC(0x40) == 0xffff_ffff)
    #expect(bench.ioapic.read(region: 0, offset: 0, size: 4) == 0x40)
    let original = try APICBench(version: .original)
    #expect(original.readIOAPIC(1) == 0x0017_0011)
  }

  @Test(arguments: 0..<24 as Range<UInt64>) func entries(pin: UInt64) throws {
    let bench = try APICBench()
    #expect(bench.readIOAPIC(0x10 + 2 * pin) == 0x10000 && bench.readIOAPIC(0x11 + 2 * pin) == 0)
    bench.redirect(pin, .max)
    #expect(bench.readIOAPIC(0x10 + 2 * pin) == 0x1afff && bench.readIOAPIC(0x11 + 2 * pin) == 0xff00_0000)
  }

  @Test func edges() throws {
    let bench = try APICBench()
    let line = bench.ioapic.line(14)
    bench.redirect(14, 0x76)
    line.pulse()
    #expect(bench.drain() == [0x76])
    line.set(true)
    line.set(true)
    #expect(bench.drain() == [0x76])
    line.set(false)
    bench.redirect(14, 0x76 | Self.masked)
    line.set(true)
    bench.redirect(14, 0x76)
    #expect(bench.drain() == [], "an edge at a masked pin is lost")
  }

  @Test func levels() throws {
    let bench = try APICBench()
    let line = bench.ioapic.line(14)
    bench.redirect(14, 0x77 | Self.level)
    line.set(true)
    #expect(bench.readIOAPIC(0x2c) == 0xc077)
    #expect(bench.fabric.acknowledge(cpu: 0) == 0x77)
    line.set(false)
    line.set(true)
    #expect(bench.fabric.pendingVector(cpu: 0) == nil, "one at a time")
    bench.endOfInterrupt()
    #expect(bench.fabric.acknowledge(cpu: 0) == 0x77, "still asserted")
    line.set(false)
    bench.endOfInterrupt()
    #expect(bench.readIOAPIC(0x2c) == 0x8077 && bench.drain() == [])
  }

  @Test func maskedLevels() throws {
    let bench = try APICBench()
    let line = bench.ioapic.line(14)
    bench.redirect(14, 0x83 | Self.level | Self.masked)
    line.set(true)
    #expect(bench.drain() == [])
    bench.redirect(14, 0x83 | Self.level)
    #expect(bench.fabric.acknowledge(cpu: 0) == 0x83)
    // The handler masks, finishes, and opens the pin again.
    bench.redirect(14, 0x83 | Self.level | Self.masked)
    #expect(bench.readIOAPIC(0x2c) == 0x1c083)
    bench.endOfInterrupt()
    #expect(bench.readIOAPIC(0x2c) == 0x18083 && bench.fabric.pendingVector(cpu: 0) == nil)
    bench.redirect(14, 0x83 | Self.level)
    #expect(bench.fabric.acknowledge(cpu: 0) == 0x83)
  }

  @Test func theEOIRegisterEndsAnInterrupt() throws {
    for version: IOAPIC.Version in [.withEndOfInterrupt, .original] {
      let bench = try APICBench(version: version)
      bench.write(0xf0, 0x11ff)
      let line = bench.ioapic.line(3)
      bench.redirect(3, 0x50 | Self.level)
      line.set(true)
      line.set(false)
      #expect(bench.drain() == [0x50])
      #expect(bench.readIOAPIC(0x16) == 0xc050, "the broadcast is suppressed")
      bench.ioapic.write(region: 0, offset: 0x40, size: 4, value: 0x51)
      bench.ioapic.write(region: 0, offset: 0x40, size: 4, value: 0x50)
      #expect(bench.readIOAPIC(0x16) == (version == .original ? 0xc050 : 0x8050))
      // The way of those who have no such register: to edge and back.
      bench.redirect(3, 0x50 | Self.masked)
      bench.redirect(3, 0x50 | Self.level)
      #expect(bench.readIOAPIC(0x16) == 0x8050)
    }
  }

  @Test func destinationsAndModes() throws {
    let bench = try APICBench(cpuCount: 4)
    for cpu in 0..<4 { bench.write(0xd0, 1 << UInt32(24 + cpu), cpu: cpu) }
    let line = bench.ioapic.line(5)
    func send(_ entry: UInt64) -> [[UInt8]] {
      bench.redirect(5, entry)
      line.pulse()
      return (0..<4).map { bench.drain(cpu: $0) }
    }
    #expect(send(0x0300_0000_0000_0060) == [[], [], [], [0x60]])
    #expect(send(0x0d00_0000_0000_0860) == [[0x60], [], [0x60], [0x60]])
    #expect(send(0x0d00_0000_0000_0960).joined().count == 1)
    #expect(send(0xff00_0000_0000_0060) == [[0x60], [0x60], [0x60], [0x60]])
    #expect(send(0x0300_0000_0000_0005) == [[], [], [], []])
    _ = bench.target.takeEvents()
    // NMI and INIT are edges even where the entry says level.
    #expect(send(0x0200_0000_0000_8400) == [[], [], [], []])
    #expect(bench.target.takeEvents() == [.nonMaskableInterrupt(cpu: 2)])
    #expect(bench.readIOAPIC(0x1a) == 0x8400)
    _ = send(0x0200_0000_0000_0500)
    #expect(bench.target.takeEvents() == [.initialize(cpu: 2)])
  }

  @Test func aLevelThatNobodyTakesStaysOpen() throws {
    let bench = try APICBench()
    bench.redirect(9, 0x0700_0000_0000_8070)
    bench.ioapic.line(9).set(true)
    #expect(bench.readIOAPIC(0x22) == 0x8070)
    bench.redirect(9, 0x8070)
    #expect(bench.drain().first == 0x70)
  }

  /// Both interrupts are moved to another processor while they are in service and waiting.
  @Test func reconfiguredWhileOutstanding() throws {
    let bench = try APICBench(cpuCount: 2)
    let (first, second) = (bench.ioapic.line(13), bench.ioapic.line(14))
    bench.redirect(13, 0x64 | Self.level)
    bench.redirect(14, 0x84 | Self.level)
    first.set(true)
    #expect(bench.fabric.acknowledge(cpu: 0) == 0x64)
    second.set(true)
    for pin: UInt64 in [14, 13] {
      (pin == 13 ? first : second).set(false)
      #expect(bench.readIOAPIC(0x10 + 2 * pin) & 0x4000 != 0)
      bench.writeIOAPIC(0x11 + 2 * pin, 1 << 24)
    }
    bench.endOfInterrupt()
    #expect(bench.drain() == [0x84])
    for pin: UInt64 in [13, 14] { #expect(bench.readIOAPIC(0x10 + 2 * pin) & 0x4000 == 0) }
  }

  @Test func snapshot() throws {
    let bench = try APICBench()
    bench.redirect(14, 0x77 | Self.level)
    bench.ioapic.line(14).set(true)
    bench.ioapic.line(2).set(true)
    bench.redirect(2, 0x30)
    #expect(bench.fabric.acknowledge(cpu: 0) == 0x77)
    let copy = try APICBench()
    try transfer(from: bench.ioapic, to: copy.ioapic)
    try transfer(from: bench.fabric, to: copy.fabric)
    for each in [bench, copy] {
      each.ioapic.line(2).set(true)
      #expect(each.readIOAPIC(0x2c) == 0xc077)
      each.endOfInterrupt()
      #expect(each.fabric.acknowledge(cpu: 0) == 0x77)
    }
  }
}
