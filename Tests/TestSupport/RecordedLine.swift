import Machine

/// The far end of an interrupt wire: remembers each change of level and when it came.
public final class RecordedLine {
  public struct Change: Equatable {
    public var time: UInt64
    public var level: Bool

    public init(_ time: UInt64, _ level: Bool) {
      self.time = time
      self.level = level
    }
  }

  public private(set) var level = false
  /// Changes only: setting a wire to the level that it has is not recorded.
  public private(set) var changes: [Change] = []
  private let clock: FakeClock

  public init(clock: FakeClock) {
    self.clock = clock
  }

  public var line: InterruptLine {
    InterruptLine { [unowned self] level in
      guard level != self.level else { return }
      self.level = level
      changes.append(Change(clock.now, level))
    }
  }

  /// Times of the changes from low to high.
  public var rises: [UInt64] { changes.filter(\.level).map(\.time) }

  public func clear() { changes = [] }
}
