/// What one processor's translator has done.
public struct TranslationStatistics: Sendable, Equatable {
  /// Blocks that were translated, those included that were dropped since and those translated again.
  public var blockCount: UInt64
  /// The most bytes of code memory that were in use at a time, the common routines included.
  public var codeSize: Int
  /// How often all translations were dropped: no room was left for code, for blocks, or for the native unit's pieces.
  public var emptyingCount: UInt64
  /// Instructions that ran in translated code, if `TranslationOptions.countsInstructions`. All others were the chain's,
  /// those of translated blocks included that have no translation or met something that translated code leaves to it: a
  /// miss in the page tables, a device, a fault, the jump that is about to be linked.
  public var instructionCount: Int64
  /// How often translated code was left for the chain at an instruction, by mnemonic, if instructions are counted. Jumps
  /// that are about to be linked are among them.
  public var leaveCounts: [String: UInt64]

  public init(
    blockCount: UInt64 = 0, codeSize: Int = 0, emptyingCount: UInt64 = 0, instructionCount: Int64 = 0,
    leaveCounts: [String: UInt64] = [:]
  ) {
    self.leaveCounts = leaveCounts
    self.blockCount = blockCount
    self.codeSize = codeSize
    self.emptyingCount = emptyingCount
    self.instructionCount = instructionCount
  }

  public static func += (left: inout Self, right: Self) {
    left.blockCount &+= right.blockCount
    left.codeSize &+= right.codeSize
    left.emptyingCount &+= right.emptyingCount
    left.instructionCount &+= right.instructionCount
    left.leaveCounts.merge(right.leaveCounts, uniquingKeysWith: &+)
  }
}
