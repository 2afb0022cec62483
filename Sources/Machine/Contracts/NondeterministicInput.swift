/// The one door through which anything enters a guest that its past does not determine. Recording wraps it; replaying
/// replaces it. Under the machine lock.
public protocol NondeterministicInput: AnyObject {
  /// Host wall-clock time, nanoseconds since 1970 UTC.
  func wallClock() -> UInt64
  /// Fills the buffer with entropy.
  func entropy(_ buffer: UnsafeMutableRawBufferPointer)
  /// Bytes from outside (a terminal, a network) on their way into the device called `source`: what is returned is what
  /// the device sees.
  func receive(_ bytes: [UInt8], source: String) -> [UInt8]
}
