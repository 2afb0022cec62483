import Machine
import TestSupport
import Testing

@testable import Devices

@Suite struct PanicPortTests {
  @Test func eventsReachTheMachine() throws {
    let platform = try FakePlatform()
    let port = platform.start(PanicPort())
    #expect(port.peek(0) == 3)
    port.poke(0, 1)
    port.poke(0, 2)
    port.poke(0, 3)
    #expect(
      platform.requests == [
        .failure(.panic), .failure(.crashKernelLoaded), .failure(.panic), .failure(.crashKernelLoaded),
      ])
    port.poke(0, 0xf0)
    #expect(platform.requests.count == 4)
    port.withstand(10_000, seed: 1, offsets: 4)
    try transfer(from: port, to: platform.start(PanicPort()))
  }
}
