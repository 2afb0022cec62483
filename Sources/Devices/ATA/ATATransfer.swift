/// Data that a command wants moved between host and drive.
struct ATATransfer: Codable, Equatable, Sendable {
  enum Direction: Codable, Equatable, Sendable {
    case toHost
    case toDrive
  }

  enum Method: Codable, Equatable, Sendable {
    /// Through the data register, block by block.
    case pio
    case dma
    /// Native command queuing: by DMA, whenever the drive likes.
    case queued(tag: Int)
  }

  enum Content: Codable, Equatable, Sendable {
    /// Bytes that the drive has made, `count` of them.
    case bytes([UInt8])
    /// The medium's bytes from this offset on: whole sectors of 512 bytes.
    case medium(offset: UInt64)
    /// The host's bytes, which the drive wants to see as a whole before it goes on.
    case parameters
  }

  var direction: Direction
  var method: Method
  var content: Content
  /// Bytes, at least one.
  var count: UInt64
  /// The most bytes that go through the data register at once: one data-request block.
  var blockSize = 512
  /// The command that it belongs to.
  var command: UInt8
  var registers: ATARegisters
  /// What is written must be on stable storage before the command ends.
  var isForced = false

  /// Whether it belongs to a packet command: then the registers tell the host what each block is.
  var isPacket: Bool { command == ATACommand.packet }

  /// Whether a drive could have asked for it: a snapshot may say anything.
  var isSound: Bool {
    guard blockSize > 0, count > 0, count <= 1 << 48 else { return false }
    return switch content {
    case .bytes(let bytes): direction == .toHost && UInt64(bytes.count) == count
    case .medium(let offset): offset <= 1 << 62
    case .parameters: direction == .toDrive && count <= 1 << 16
    }
  }
}

extension ATATransfer.Content {
  var isOnMedium: Bool { if case .medium = self { true } else { false } }
}
