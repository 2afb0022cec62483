import Machine
import TestSupport
import Testing

@testable import Devices

@Suite struct NumericErrorLatchTests {
  private let platform: FakePlatform

  init() throws { platform = try FakePlatform() }

  @Test func writeResetsAndIgnores() throws {
    let interrupt = RecordedLine(clock: platform.clock)
    var count = 0
    let latch = platform.start(NumericErrorLatch(interrupt: interrupt.line) { count += 1 })
    // IGNNE# needs an error.
    latch.poke(0, 0)
    #expect(count == 0 && !interrupt.level && latch.peek(0) == 0xff)
    latch.input.set(true)
    latch.input.set(true)
    #expect(interrupt.level && interrupt.changes.count == 1)
    let state = try latch.storedState()
    latch.poke(1, 0)
    #expect(interrupt.level)
    latch.poke(0, 0)
    #expect(!interrupt.level && count == 1)
    latch.restore(state)
    #expect(interrupt.level)
    latch.reset()
    #expect(!interrupt.level && count == 1)
    latch.withstand(1000, seed: 9, offsets: 2)
  }
}
