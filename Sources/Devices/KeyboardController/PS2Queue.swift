/// The bytes that a PS/2 device has for the controller. Answers to commands go in whole; events only while there is
/// room, so that a guest that never reads costs nothing but lost keys.
struct PS2Queue: Codable, Equatable, Sendable {
  /// Room for events (keys and movements), in bytes.
  static let eventCapacity = 16
  /// Room for everything: a guest may send commands and not read the answers.
  static let capacity = 64

  private(set) var bytes: [UInt8] = []

  var isEmpty: Bool { bytes.isEmpty }

  mutating func answer(_ answer: UInt8...) {
    if bytes.count + answer.count <= Self.capacity { bytes += answer }
  }

  /// False: there was no room and the whole event is lost.
  mutating func event(_ event: [UInt8]) -> Bool {
    guard bytes.count + event.count <= Self.eventCapacity else { return false }
    bytes += event
    return true
  }

  mutating func take() -> UInt8? { bytes.isEmpty ? nil : bytes.removeFirst() }

  mutating func removeAll() { bytes.removeAll() }
}
