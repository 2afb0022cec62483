/// How often each cluster of a file is referred to, counted by walking through all tables.
struct ReferenceCounts {
  /// By cluster; those behind the end have none.
  private(set) var counts: [UInt32]

  init(clusters: UInt64) { counts = [UInt32](repeating: 0, count: Int(clusters)) }

  /// Whether all of these clusters are in the file.
  func contains(_ clusters: Range<UInt64>) -> Bool { clusters.upperBound <= UInt64(counts.count) }

  /// One more reference to each of these, which are in the file.
  mutating func add(_ clusters: Range<UInt64>) {
    for cluster in clusters where counts[Int(cluster)] < .max { counts[Int(cluster)] += 1 }
  }

  subscript(cluster: UInt64) -> UInt64 { cluster < UInt64(counts.count) ? UInt64(counts[Int(cluster)]) : 0 }
}
