/// A submission queue: the driver's commands, a ring in guest memory (NVMe 1.4, 4.1).
struct NVMeSubmissionQueue: Codable, Equatable, Sendable {
  var base: UInt64
  /// Entries, 2 to 4096.
  var size: UInt32
  var completionQueue: Int
  /// Tells the queue from earlier ones of its number, whose commands may still be under way.
  var birth: UInt64
  var head: UInt32 = 0
  var tail: UInt32 = 0
  /// Commands that were taken and have no completion yet. Nothing is taken while there are as many as entries.
  var inFlight: UInt32 = 0
}

/// A completion queue: the controller's answers, a ring in guest memory.
struct NVMeCompletionQueue: Codable, Equatable, Sendable {
  var base: UInt64
  var size: UInt32
  /// Entry in the table of messages; nil: the queue does not interrupt.
  var vector: Int?
  var head: UInt32 = 0
  var tail: UInt32 = 0
  /// The phase bit of entries that are written in this round.
  var phase = true
  /// Answers that there was no room for.
  var waiting: [NVMeCompletion] = []

  var isFull: Bool { (tail &+ 1) % size == head }
  var isEmpty: Bool { head == tail }
}

/// An answer to a command.
struct NVMeCompletion: Codable, Equatable, Sendable {
  static let size = 16

  var result: UInt32
  var queue: Int
  var command: UInt16
  /// `NVMeStatus`.
  var status: UInt16
}
