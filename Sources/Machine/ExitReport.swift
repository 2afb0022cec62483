import Host

/// The exits of all of a machine's processors, for reading.
public struct ExitReport: Sendable {
  public struct Row: Sendable, Equatable {
    public var cause: VMExit.Cause
    /// Port, page or MSR, with the device that answers there: "port 0x3f8 (serial)". Nil for the cause as a whole.
    public var place: String?
    public var count: UInt64
    public var nanoseconds: UInt64
  }

  /// A row for each cause that occurred, most host time first, each followed by its places.
  public var rows: [Row]

  /// At most `placesPerCause` places are listed for a cause.
  init(_ statistics: [ExitStatistics], frequency: TimeStampFrequency, bus: Bus, placesPerCause: Int = 8) {
    var places: [ExitStatistics.Place: ExitStatistics.Total] = [:]
    for each in statistics { places.merge(each.places) { $0 + $1 } }
    rows = []
    let causes = VMExit.Cause.allCases.map { cause in
      (cause: cause, total: statistics.reduce(ExitStatistics.Total()) { $0 + $1.total(cause) })
    }
    for (cause, total) in causes.filter({ $0.total.count > 0 }).sorted(by: { $0.total.ticks > $1.total.ticks }) {
      rows.append(
        Row(cause: cause, place: nil, count: total.count, nanoseconds: frequency.nanoseconds(total.ticks)))
      let own = places.filter { $0.key.cause == cause }.sorted {
        ($1.value.ticks, $0.key.address) < ($0.value.ticks, $1.key.address)
      }
      for (place, total) in own.prefix(placesPerCause) {
        rows.append(
          Row(
            cause: cause, place: Self.name(place, bus), count: total.count,
            nanoseconds: frequency.nanoseconds(total.ticks)))
      }
    }
  }

  private static func name(_ place: ExitStatistics.Place, _ bus: Bus) -> String {
    switch place.cause {
    case .portRead, .portWrite:
      let device = bus.deviceName(port: UInt16(truncatingIfNeeded: place.address))
      return "port \(hexadecimal(place.address))" + (device.map { " (\($0))" } ?? "")
    case .memoryRead, .memoryWrite:
      let device = bus.deviceName(page: place.address << 12)
      return "page \(hexadecimal(place.address << 12))" + (device.map { " (\($0))" } ?? "")
    default: return "msr \(hexadecimal(place.address))"
    }
  }

  /// A table: cause, count, milliseconds, nanoseconds each.
  public var text: String {
    var lines = [Self.line("exits", "count", "host ms", "ns each")]
    for row in rows {
      let tenths = row.nanoseconds / 100_000
      lines.append(
        Self.line(
          row.place.map { "  " + $0 } ?? row.cause.rawValue, "\(row.count)", "\(tenths / 10).\(tenths % 10)",
          "\(row.nanoseconds / max(1, row.count))"))
    }
    return lines.joined(separator: "\n")
  }

  private static func line(_ name: String, _ columns: String...) -> String {
    let name = name + String(repeating: " ", count: max(0, 36 - name.count))
    return columns.reduce(name) { $0 + String(repeating: " ", count: max(1, 13 - $1.count)) + $1 }
  }
}
