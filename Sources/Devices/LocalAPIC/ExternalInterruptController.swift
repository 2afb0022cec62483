/// The part of an 8259 pair that the processor's interrupt acknowledge cycle reaches.
public protocol ExternalInterruptController: AnyObject {
  /// The vector that an acknowledge cycle would return now. No side effect.
  var vector: UInt8 { get }
  /// An interrupt acknowledge cycle: the vector, whose request is now in service. There is always one: the controller
  /// answers a request that has gone away with its spurious vector.
  func acknowledge() -> UInt8
}
