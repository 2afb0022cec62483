import Machine

/// The debug console of Bochs and QEMU: each byte written to its port goes to the host. A read gives 0xe9, which is how a
/// guest finds it. Programs use it at port 0xe9, SeaBIOS and OVMF at 0x402.
///
/// Region 0: one port.
public final class DebugConsole: Device {
  /// The console remembers nothing.
  public struct State: Codable, Equatable, Sendable {}

  public let name: String
  private let sink: ([UInt8]) -> Void

  /// `sink` is called under the machine lock and must not wait.
  public init(name: String = "debug-console", sink: @escaping ([UInt8]) -> Void) {
    self.name = name
    self.sink = sink
  }

  public func attach(to platform: DevicePlatform) {}

  public func reset() {}

  public func read(region: Int, offset: UInt64, size: Int) -> UInt64 {
    ByteCycles.read(offset: offset, size: size) { $0 == 0 ? 0xe9 : 0xff }
  }

  public func write(region: Int, offset: UInt64, size: Int, value: UInt64) {
    ByteCycles.write(offset: offset, size: size, value: value) { offset, byte in
      if offset == 0 { sink([byte]) }
    }
  }

  public func save() -> State { State() }

  public func restore(_ state: State) {}
}
