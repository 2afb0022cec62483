import Devices
import Host
import Logging
import Machine

/// A machine, put together, and the ends of it that somebody outside has to do with.
protocol MachineAssembly {
  var machine: VirtualMachine { get }
  /// The guest's serial ports, for their endpoints.
  var serialPorts: [Serial16550] { get }
  /// The guest's virtio console and balloon; nil: it has none.
  var console: VirtioConsole? { get }
  var balloon: VirtioBalloon? { get }
  /// The guest's display, and where its keys go; nil: it has none.
  var display: VGA? { get }
  var keys: KeyboardController? { get }
  var powerButton: PowerButton { get }
}

extension MachineConfiguration {
  /// Puts the machine together. `debugConsole` gets what the guest writes to port 0xe9, `firmwareLog` what firmware
  /// writes to port 0x402; both under the machine lock.
  func makeAssembly(
    loop: EventLoop, log: Logger, debugConsole: @escaping ([UInt8]) -> Void, firmwareLog: (([UInt8]) -> Void)?
  ) throws -> any MachineAssembly {
    switch kind {
    case .pc:
      try MachineBuilder(self, loop: loop, log: log, debugConsole: debugConsole, firmwareLog: firmwareLog)
    case .micro: try MicroBuilder(self, loop: loop, log: log, debugConsole: debugConsole)
    }
  }
}
