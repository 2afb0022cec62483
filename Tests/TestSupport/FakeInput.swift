import Machine

/// Nondeterministic input that a test determines: a wall clock that it sets, entropy that counts up, and a record of the
/// bytes that devices received.
public final class FakeInput: NondeterministicInput {
  /// Nanoseconds since 1970 UTC.
  public var time: UInt64
  public private(set) var received: [(source: String, bytes: [UInt8])] = []
  /// How often a device asked for the wall clock.
  public private(set) var wallClockReads = 0
  private var nextByte: UInt8 = 0

  public init(time: UInt64 = 0) {
    self.time = time
  }

  public func wallClock() -> UInt64 {
    wallClockReads += 1
    return time
  }

  public func entropy(_ buffer: UnsafeMutableRawBufferPointer) {
    for index in buffer.indices {
      buffer[index] = nextByte
      nextByte &+= 1
    }
  }

  public func receive(_ bytes: [UInt8], source: String) -> [UInt8] {
    received.append((source, bytes))
    return bytes
  }
}
