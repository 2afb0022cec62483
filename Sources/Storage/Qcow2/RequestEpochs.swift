/// Keeps clusters that are not needed any more from being used again under the eyes of requests that still look at them.
///
/// Each request belongs to the epoch in which it began; a checkpoint ends an epoch. What a checkpoint has made free can
/// be used when no request of its epoch or an earlier one is left. Guarded by the image's metadata lock.
struct RequestEpochs {
  private var current: UInt64 = 0
  private var active: [UInt64: Int] = [:]
  private var retired: [(epoch: UInt64, clusters: [UInt64])] = []

  /// Whether no request is under way.
  var isIdle: Bool { active.isEmpty }

  /// A request begins; what is returned ends it.
  mutating func begin() -> UInt64 {
    active[current, default: 0] += 1
    return current
  }

  mutating func end(_ epoch: UInt64) {
    guard let count = active[epoch] else { return }
    active[epoch] = count > 1 ? count - 1 : nil
  }

  /// A checkpoint is over that has taken these clusters out of the file's tables.
  mutating func retire(_ clusters: [UInt64]) {
    guard !clusters.isEmpty else { return }
    retired.append((current, clusters))
    current += 1
  }

  /// Clusters that nobody looks at any more.
  mutating func takeReleasable() -> [UInt64] {
    let oldest = active.keys.min() ?? .max
    let count = retired.prefix { $0.epoch < oldest }.count
    defer { retired.removeFirst(count) }
    return retired[..<count].flatMap(\.clusters)
  }
}
