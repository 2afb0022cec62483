/// What comes next in a command.
enum ATAStep: Equatable {
  /// Nothing: the command has ended.
  case done(ATAOutcome)
  /// Data moves; then `ATADevice.finish`, or `accept` where the content is `parameters`.
  case transfer(ATATransfer)
  /// The drive is busy with itself: `ATADevice.perform`.
  case work(ATAWork)
}

/// What a drive does without moving data to or from its host.
struct ATAWork: Equatable {
  enum Kind: Equatable {
    case flush
    /// The contents of these ranges, in bytes, do not matter any more.
    case discard([Range<UInt64>])
  }

  var kind: Kind
  /// The registers, as the command leaves them.
  var registers: ATARegisters
}

/// How the movement of data to or from the medium ended.
enum ATAMovement: Equatable {
  case moved
  /// The host's memory is none: no fault of the drive's.
  case badMemory
  case failed(ATAOutcome)
}
