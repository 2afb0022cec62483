/// A device with a line of characters to the host: a serial port, a console. Under the machine lock.
public protocol CharacterPort: AnyObject {
  /// Where the guest's output goes; nil: nowhere.
  var backend: (any CharacterBackend)? { get set }
  /// The guest wants input at all. What comes before is likely to be thrown away.
  var isListening: Bool { get }
  /// Whether `receive` takes a byte now. If not, `onReadyToReceive` will be called when it does.
  var canReceive: Bool { get }
  /// Bytes that `receive` takes now.
  var receiveCapacity: Int { get }
  /// The guest has room for input that it had none for before.
  var onReadyToReceive: (() -> Void)? { get set }
  /// `isListening` has become true, and a moment is due before the first byte.
  var onListening: (() -> Void)? { get set }
  /// Gives the guest input, at most `receiveCapacity`.
  func receive(_ bytes: [UInt8])
  /// The backend takes output again after it refused some.
  func resumeTransmission()
}
