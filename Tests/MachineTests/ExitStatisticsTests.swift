import Host
import Logging
import Testing
import X86

@testable import Machine

@Suite struct ExitStatisticsTests {
  /// One exit of each cause.
  static let exits: [VMExit] = [
    .portRead(port: 0x60, size: 1), .portWrite(port: 0x61, size: 1, value: 0),
    .memoryRead(address: GuestPhysicalAddress(0xfee0_0123), size: 4),
    .memoryWrite(address: GuestPhysicalAddress(0xfee0_0ff0), size: 4, value: 0), .msrRead(index: 0xc000_0080),
    .msrWrite(index: 0x6e0, value: 1), .timeStampRead, .timeStampMoved, .randomRead(size: 8), .taskPriorityChanged,
    .halt, .yield, .shutdown, .hypercall, .numericError, .interruptWindow, .debug(address: GuestLinearAddress(0)),
    .budgetSpent, .attention(1),
  ]

  @Test func everyCauseIsCountedAsItself() {
    let statistics = ExitStatistics()
    #expect(Self.exits.map(\.cause) == VMExit.Cause.allCases)
    for (index, exit) in Self.exits.enumerated() {
      for _ in 0...index { statistics.record(exit, ticks: 10) }
    }
    for (index, exit) in Self.exits.enumerated() {
      let count = UInt64(index + 1)
      #expect(statistics.total(exit.cause) == ExitStatistics.Total(count: count, ticks: count * 10))
    }
    #expect(statistics.places[.init(cause: .memoryRead, address: 0xfee00)]?.count == 3)
    #expect(statistics.places[.init(cause: .msrRead, address: 0xc000_0080)]?.count == 5)
    #expect(statistics.places.count == 6)
  }

  @Test func fullTableStillCountsCauses() {
    let statistics = ExitStatistics()
    for port in 0...UInt16.max { statistics.record(.portRead(port: port, size: 1), ticks: 1) }
    #expect(statistics.total(.portRead).count == 65536)
    #expect(statistics.places.count <= 512)
    #expect(statistics.places.count > 400)
  }

  @Test func reportNamesDevicesAndPutsCostlyFirst() throws {
    let bus = Bus(log: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
    try bus.map(RecordingDevice("serial"), region: 0, ports: 0x3f8...0x3ff, offset: 0)
    let statistics = [ExitStatistics(), ExitStatistics()]
    for each in statistics { each.record(.portWrite(port: 0x3f8, size: 1, value: 1), ticks: 1000) }
    statistics[0].record(.portWrite(port: 0x80, size: 1, value: 1), ticks: 7)
    statistics[0].record(.halt, ticks: 5000)
    let report = ExitReport(statistics, frequency: TimeStampFrequency(hertz: 500_000_000, source: .measured), bus: bus)
    #expect(
      report.rows == [
        .init(cause: .halt, place: nil, count: 1, nanoseconds: 10000),
        .init(cause: .portWrite, place: nil, count: 3, nanoseconds: 4014),
        .init(cause: .portWrite, place: "port 0x3f8 (serial)", count: 2, nanoseconds: 4000),
        .init(cause: .portWrite, place: "port 0x80", count: 1, nanoseconds: 14),
      ])
    #expect(report.text.contains("  port 0x3f8 (serial)"))
  }
}
