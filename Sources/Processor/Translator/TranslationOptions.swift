import Host

/// How code is translated.
public struct TranslationOptions: Sendable {
  /// Bytes of generated code; when they are used up, all is dropped and translated anew.
  public var capacity: Int
  /// How often a block is entered before it is translated.
  public var threshold: Int
  /// Translates single instructions too, where entering translated code costs more than it saves: for tests.
  public var isEager: Bool
  /// Counts the instructions that run translated, at some cost to entering translated code and leaving it.
  public var countsInstructions = false
  /// Leaves instructions to the interpreter whose undefined flags it cannot make as the host does: where engines are compared.
  public var interpretsUnmatchedFlags = false
  /// Gets the names of all translations.
  public var symbols: PerfMap?
  /// Translations to be printed.
  public var listing: ListingRequest?

  /// What `capacity` can be.
  public static let capacities = 1 << 20...1 << 30
  public static let standardCapacity = 64 << 20

  /// A block to be printed each time it is translated.
  public struct ListingRequest: Sendable {
    /// A linear address; wanted are the blocks that have an instruction byte there.
    public var address: UInt64
    /// Called on the virtual processor's thread.
    public var print: @Sendable (String) -> Void

    public init(address: UInt64, print: @escaping @Sendable (String) -> Void) {
      self.address = address
      self.print = print
    }
  }

  public init(capacity: Int = standardCapacity, threshold: Int = 12, isEager: Bool = false) {
    precondition(Self.capacities.contains(capacity) && threshold > 0, "there is room for some blocks")
    self.capacity = capacity
    self.threshold = threshold
    self.isEager = isEager
  }

  /// Translates whatever can be, the first time it runs.
  public static let eager = TranslationOptions(threshold: 1, isEager: true)
}
