import TestSupport

/// What may be left of a file after its power was cut.
///
/// What came before the last flush is there. Of what came after, each sector has been written or not, whatever the order
/// of the writes was, and the file may have become longer or not.
struct PowerCut {
  /// How much of what was not flushed is on the disk.
  enum Luck: CaseIterable {
    case none, all, onlyLast, allButOne, sectors
  }

  /// As it was at the last flush.
  private(set) var durable: [UInt8] = []
  private(set) var pending: [MemoryFile.Event] = []
  private static let sectorSize = 512

  /// Something more is done before the cut.
  mutating func append(_ event: MemoryFile.Event) {
    guard case .flush = event else { return pending.append(event) }
    for event in pending { Self.apply(event, to: &durable) }
    pending = []
  }

  func remains(_ luck: Luck, _ random: inout SeededRandom) -> [UInt8] {
    var bytes = durable
    let left = pending.isEmpty ? 0 : Int(random.next() % UInt64(pending.count))
    for (index, event) in pending.enumerated() {
      switch luck {
      case .none: break
      case .all: Self.apply(event, to: &bytes)
      case .onlyLast: if index == pending.count - 1 { Self.apply(event, to: &bytes) }
      case .allButOne: if index != left { Self.apply(event, to: &bytes) }
      case .sectors: for part in Self.parts(event) where random.next() & 1 == 0 { Self.apply(part, to: &bytes) }
      }
    }
    return bytes
  }

  /// The event sector by sector.
  private static func parts(_ event: MemoryFile.Event) -> [MemoryFile.Event] {
    func pieces(_ range: Range<Int>) -> [Range<Int>] {
      var pieces: [Range<Int>] = []
      var start = range.lowerBound
      while start < range.upperBound {
        let end = min((start / sectorSize + 1) * sectorSize, range.upperBound)
        pieces.append(start..<end)
        start = end
      }
      return pieces
    }
    switch event {
    case .write(let offset, let bytes):
      return pieces(offset..<offset + bytes.count).map {
        .write(offset: $0.lowerBound, bytes: Array(bytes[$0.lowerBound - offset..<$0.upperBound - offset]))
      }
    case .zero(let range): return pieces(range).map { .zero($0) }
    case .resize, .flush: return [event]
    }
  }

  private static func apply(_ event: MemoryFile.Event, to bytes: inout [UInt8]) {
    switch event {
    case .write(let offset, let data):
      if offset + data.count > bytes.count {
        bytes += [UInt8](repeating: 0, count: offset + data.count - bytes.count)
      }
      bytes.replaceSubrange(offset..<offset + data.count, with: data)
    case .zero(let range):
      let range = range.clamped(to: 0..<bytes.count)
      bytes.replaceSubrange(range, with: repeatElement(0, count: range.count))
    case .resize(let size):
      if size < bytes.count {
        bytes.removeLast(bytes.count - size)
      } else {
        bytes += [UInt8](repeating: 0, count: size - bytes.count)
      }
    case .flush: break
    }
  }
}
