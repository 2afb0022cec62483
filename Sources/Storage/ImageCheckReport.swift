/// What a look at all of an image's tables has found.
public struct ImageCheckReport: Equatable, Sendable {
  /// What is wrong, in words, one sentence without a full stop each; of many, the first.
  public private(set) var problems: [String] = []
  /// Contradictions that can cost data.
  public private(set) var corruptions = 0
  /// Clusters that nobody refers to, but that count as used: lost space, nothing else.
  public internal(set) var leaks = 0
  /// The image says of itself that it was not closed in good order, or is corrupt.
  public internal(set) var isMarkedDirty = false
  public internal(set) var isMarkedCorrupt = false
  /// Clusters of the disk, and how many have a place in the file, how many of these compressed, and how many do not
  /// stand behind the one before.
  public internal(set) var totalClusters: UInt64 = 0
  public internal(set) var allocatedClusters: UInt64 = 0
  public internal(set) var compressedClusters: UInt64 = 0
  public internal(set) var fragmentedClusters: UInt64 = 0
  /// Where the last cluster in use ends in the file, in bytes.
  public internal(set) var imageEnd: UInt64 = 0

  private static let problemLimit = 50

  public var isSound: Bool { corruptions == 0 && !isMarkedDirty && !isMarkedCorrupt }

  mutating func addCorruption(_ problem: String) {
    corruptions += 1
    if problems.count < Self.problemLimit { problems.append(problem) }
  }
}
