import Memory
import TestSupport
import Testing
import X86

@testable import Devices

@Suite struct GenerationIdentifierTests {
  private final class Events { var count = 0 }

  private func bytes(_ platform: FakePlatform, _ address: UInt64) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: 16)
    #expect(bytes.withUnsafeMutableBytes { platform.memory.read(GuestPhysicalAddress(address), into: $0) })
    return bytes
  }

  @Test func aRestoredMachineGetsAnother() throws {
    let platform = try FakePlatform()
    let events = Events()
    let device = platform.start(GenerationIdentifier { events.count += 1 })
    device.place(at: 0x1028)
    let first = bytes(platform, 0x1028)
    #expect(first != [UInt8](repeating: 0, count: 16))
    device.reset()
    device.place(at: 0x2028)
    #expect(bytes(platform, 0x2028) == first && events.count == 0)
    let copy = platform.start(GenerationIdentifier { events.count += 1 })
    try transfer(from: device, to: copy)
    #expect(copy.save() == device.save() && events.count == 0)
    copy.renew()
    let second = bytes(platform, 0x2028)
    #expect(second != first && events.count == 1 && bytes(platform, 0x1028) == first)
    copy.renew()
    #expect(bytes(platform, 0x2028) != second && events.count == 2)
  }

  @Test func anyAddressIsHarmless() throws {
    let platform = try FakePlatform()
    let device = platform.start(GenerationIdentifier {})
    for address in [.max, 1 << 20, (1 << 20) - 8, 1 << 63] as [UInt64] {
      device.place(at: address)
      device.renew()
    }
    device.place(at: 0)
    device.renew()
    #expect(bytes(platform, 0) == [UInt8](repeating: 0, count: 16))
  }
}
