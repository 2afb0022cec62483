/// The host's end of a serial line: a terminal, a file, a socket.
///
/// Called under the machine lock, so it must not wait: it takes what it has room for and lets a thread of its own do the
/// rest. Bytes travel the other way through `Serial16550.receive`.
public protocol CharacterBackend: AnyObject {
  /// Takes bytes from the guest and returns how many it took. The rest stays in the transmitter's FIFO, where the guest
  /// sees it, until the backend calls `Serial16550.resumeTransmission`. It must not call the device from in here.
  func send(_ bytes: [UInt8]) -> Int
}
