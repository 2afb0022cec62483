import Logging
import Machine
import Memory

/// A machine of fakes around a device under test.
public final class FakePlatform {
  public let clock: FakeClock
  public let inputs: FakeInput
  public let memory: GuestMemory
  /// What devices asked of the machine, in order.
  public private(set) var requests: [MachineRequest] = []

  /// `memorySize` are bytes of guest RAM, `deviceMemory` bytes for devices that have memory of their own.
  public init(
    clock: FakeClock = FakeClock(), inputs: FakeInput = FakeInput(), memorySize: UInt64 = 1 << 20,
    deviceMemory: UInt64 = 0
  ) throws {
    self.clock = clock
    self.inputs = inputs
    memory = try GuestMemory(size: memorySize, deviceMemory: deviceMemory)
  }

  /// The same clock and inputs as devices see them.
  public var devices: DevicePlatform {
    DevicePlatform(
      clock: clock, memory: memory, log: Logger(label: "test", factory: { _ in SwiftLogNoOpLogHandler() }),
      inputs: inputs,
      request: { [unowned self] in requests.append($0) })
  }

  /// Attaches and resets a device.
  public func start<D: Device>(_ device: D) -> D {
    device.attach(to: devices)
    device.reset()
    return device
  }
}
