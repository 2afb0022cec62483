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
    // Eight data bits.
    port.write(region: 0, offset: 3, size: 1, value: 3)
    line = SerialLine(port: port, machine: machine)
    machine.lock.withLock { machine.clock.start() }
  }

  /// Reads as a guest that polls, until `count` bytes have come (or, a while after that, more), or ten seconds are over.
  private func receive(_ count: Int) -> [UInt8] {
    var bytes: [UInt8] = []
    var deadline = MonotonicTime.now + 10_000_000_000
    while MonotonicTime.now < deadline {
      let byte = machine.lock.withLock {
        port.read(region: 0, offset: 5, size: 1) & 1 == 1 ? UInt8(port.read(region: 0, offset: 0, size: 1)) : nil
      }
      if let byte { bytes.append(byte) } else { usleep(200) }
      if bytes.count == count { deadline = min(deadline, MonotonicTime.now + 20_000_000) }
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
    #expect(receive(4) == [1, 2, 3, 4])
  }

  @Test func guestThatPollsListensToo() {
    defer { loop.stop() }
    line.receive([9, 8])
    #expect(receive(2) == [9, 8])
  }

  @Test func floodIsHeldBackAndThenArrivesWhole() {
    defer { loop.stop() }
    let orders = Shared<[Bool]>([])
    line.connect { hold in orders.change { $0.append(hold) } }
    let flood = (0..<100_000).map { UInt8(truncatingIfNeeded: $0) }
    line.receive(flood)
    #expect(orders.current == [true])
    // Not compared inside the macro, which would look for the smallest difference.
    let isWhole = receive(flood.count) == flood
    #expect(isWhole)
    #expect(orders.current == [true, false])
  }
}
