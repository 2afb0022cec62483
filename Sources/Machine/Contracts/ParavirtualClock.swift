/// A clock that guests read from their own memory, and that they ask for by model-specific registers. All calls under the
/// machine lock.
public protocol ParavirtualClock: ProcessorRegisters {
  /// A processor gets an INIT.
  func initialize(cpu: Int)
  /// The machine goes on after a pause.
  func resume()
}
