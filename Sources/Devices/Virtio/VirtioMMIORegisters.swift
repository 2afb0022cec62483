/// What the memory-mapped transport remembers beside the queues.
struct VirtioMMIORegisters: Codable, Equatable, Sendable {
  /// Offset of the configuration structure.
  static let configuration: UInt64 = 0x100

  var offeredWord: UInt32 = 0
  var acceptedWord: UInt32 = 0
  var selectedQueue: UInt32 = 0
  var interruptStatus: UInt8 = 0
}
