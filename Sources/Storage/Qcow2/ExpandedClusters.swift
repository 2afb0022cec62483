import Host

/// Compressed clusters that were expanded last, for readers that take them piece by piece.
final class ExpandedClusters: @unchecked Sendable {
  private static let limit = 4

  private let monitor = Monitor()
  /// The most recently used one stands last.
  private var clusters: [(place: UInt64, bytes: [UInt8])] = []
  private let clusterSize: Int

  init(clusterSize: Int) { self.clusterSize = clusterSize }

  /// The bytes of a compressed cluster, which `place` stands for: those that are known, or what `expand` makes of an empty one.
  func bytes(
    of place: UInt64, expand: (UnsafeMutableRawBufferPointer) throws(ImageFailure) -> Void
  ) throws(ImageFailure) -> [UInt8] {
    if let known = find(place) { return known }
    var bytes = [UInt8](repeating: 0, count: clusterSize)
    let result = bytes.withUnsafeMutableBytes { bytes in
      Result { () throws(ImageFailure) in try expand(bytes) }
    }
    try result.get()
    monitor.withLock {
      if clusters.count >= Self.limit { clusters.removeFirst() }
      clusters.append((place, bytes))
    }
    return bytes
  }

  private func find(_ place: UInt64) -> [UInt8]? {
    monitor.lock()
    defer { monitor.unlock() }
    guard let index = clusters.firstIndex(where: { $0.place == place }) else { return nil }
    let known = clusters.remove(at: index)
    clusters.append(known)
    return known.bytes
  }

  /// Their places in the file may be used for something else now.
  func forget() { monitor.withLock { clusters = [] } }
}
