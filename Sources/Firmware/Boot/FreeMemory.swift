/// RAM that a loader may still use, below 4 GiB. Ranges are taken out as they are given away.
struct FreeMemory {
  /// In ascending order.
  private(set) var ranges: [Range<UInt64>]

  init(_ map: PhysicalMemoryMap) {
    ranges = map.entries.filter { $0.kind == .ram }.map { $0.range.clamped(to: 0..<1 << 32) }.filter { !$0.isEmpty }
  }

  /// Whether all of `range` is free.
  func contains(_ range: Range<UInt64>) -> Bool { ranges.contains { range.clamped(to: $0) == range } }

  mutating func remove(_ range: Range<UInt64>) {
    ranges = ranges.flatMap { free in
      guard free.overlaps(range) else { return [free] }
      return [
        free.lowerBound..<max(free.lowerBound, range.lowerBound),
        min(free.upperBound, range.upperBound)..<free.upperBound,
      ].filter { !$0.isEmpty }
    }
  }

  /// The lowest free place for `count` bytes inside of `bounds`; nil: there is none. `alignment` is a power of two.
  func lowest(_ count: UInt64, alignment: UInt64, in bounds: Range<UInt64>) -> UInt64? {
    for range in ranges.map({ $0.clamped(to: bounds) }) where !range.isEmpty {
      if let start = range.lowerBound.roundedUp(to: alignment), start <= range.upperBound,
        range.upperBound - start >= count
      {
        return start
      }
    }
    return nil
  }

  /// The highest.
  func highest(_ count: UInt64, alignment: UInt64, in bounds: Range<UInt64>) -> UInt64? {
    for range in ranges.map({ $0.clamped(to: bounds) }).reversed() where range.upperBound - range.lowerBound >= count {
      let start = (range.upperBound - count) & ~(alignment - 1)
      if !range.isEmpty, start >= range.lowerBound { return start }
    }
    return nil
  }

  /// The most that is free in one piece inside of `bounds`.
  func largest(in bounds: Range<UInt64>) -> UInt64 {
    ranges.map { $0.clamped(to: bounds) }.map { $0.upperBound - $0.lowerBound }.max() ?? 0
  }
}
