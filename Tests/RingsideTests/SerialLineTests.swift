import Devices
import Glibc
import Host
import Logging
import Machine
import Memory
import TestSupport
import Testing

@testable import ringside

@Suite(.timeLimit(.minutes(1))) struct SerialLineTests {
  private let loop: EventLoop
  private let machine: VirtualMachine
  private let port = Serial16550(interrupt: .unconnected)
  private let line: SerialLine

  init() throws {
    loop = try EventLoop(name: "test")
    machine = try VirtualMachine(
      memory: GuestMemory(size: 1 << 20), loop: loop, inputs: HostInput(), timeStampFrequency: .find(),
      log: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
    machine.add(port)
    port.reset()
    line = SerialLine(port: port, machine: machine)
    machine.lock.withLock { machine.clock.start() }
  }

  /// Reads what the guest would, until nothing has come for a while.
  private func received() -> [UInt8] {
    var bytes: [UInt8] = []
    var quiet = 0
    while quiet < 50 {
      let byte = machine.lock.withLock {
        port.read(region: 0, offset: 5, size: 1) & 1 == 1 ? UInt8(port.read(region: 0, offset: 0, size: 1)) : nil
      }
      quiet = byte == nil ? quiet + 1 : 0
      if let byte { bytes.append(byte) } else { usleep(500) }
    }
    return bytes
  }

  @Test func earlyInputWaitsForADriverAndItsReset() {
    defer { loop.stop() }
    line.receive([1, 2, 3])
    machine.lock.withLock {
      // As Linux begins: FIFOs cleared, the interrupt enabled, FIFOs switched on.
      port.write(region: 0, offset: 2, size: 1, value: 0)
      port.write(region: 0, offset: 1, size: 1, value: 5)
      port.write(region: 0, offset: 2, size: 1, value: 7)
    }
    line.receive([4])
    #expect(received() == [1, 2, 3, 4])
  }

  @Test func guestThatPollsListensToo() {
    defer { loop.stop() }
    line.receive([9, 8])
    #expect(received() == [9, 8])
  }

  @Test func floodIsHeldBackAndThenArrivesWhole() {
    defer { loop.stop() }
    let orders = Shared<[Bool]>([])
    line.connect { hold in orders.change { $0.append(hold) } }
    let flood = (0..<100_000).map { UInt8(truncatingIfNeeded: $0) }
    line.receive(flood)
    #expect(orders.current == [true])
    #expect(received() == flood)
    #expect(orders.current == [true, false])
  }
}
