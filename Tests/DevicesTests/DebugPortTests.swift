import Machine
import Memory
import TestSupport
import Testing

@testable import Devices

@Suite struct DebugPortTests {
  private let platform: FakePlatform

  init() throws { platform = try FakePlatform() }

  @Test func consoleTakesBytes() throws {
    var bytes: [UInt8] = []
    let console = platform.start(DebugConsole { bytes += $0 })
    #expect(console.peek(0) == 0xe9)
    for byte in "ok\n".utf8 { console.poke(0, UInt64(byte)) }
    // Of a wider access the first byte is the port's own.
    console.poke(0, 0x4342_4121, size: 4)
    #expect(bytes == Array("ok\n!".utf8))
    console.restore(try console.storedState())
    console.withstand(1000, seed: 7, offsets: 2)
  }

  @Test func exitStatusIsOdd() throws {
    let port = platform.start(DebugExit())
    #expect(port.peek(0, size: 4) == 0)
    port.poke(0, 0)
    port.poke(0, 0x10)
    port.poke(0, 0x1234_5678, size: 4)
    port.poke(0, .max, size: 8)
    #expect(
      platform.requests == [
        .exit(status: 1), .exit(status: 0x21), .exit(status: 0x2468_acf1), .exit(status: -1),
      ])
    port.restore(try port.storedState())
    port.withstand(1000, seed: 8, offsets: 5)
  }
}
