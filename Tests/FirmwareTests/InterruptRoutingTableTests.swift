import Memory
import Testing
import X86

@testable import Firmware

@Suite struct InterruptRoutingTableTests {
  @Test func table() throws {
    let memory = try GuestMemory(size: 1 << 20)
    InterruptRoutingTable.install(in: memory)
    var bytes = [UInt8](repeating: 0, count: 32 + 31 * 16)
    #expect(bytes.withUnsafeMutableBytes { memory.read(GuestPhysicalAddress(0xff100), into: $0) })
    let view = ByteView(bytes)
    #expect(view.has("$PIR".utf8, at: 0) && bytes.reduce(0, &+) == 0)
    #expect(view.load(6, as: UInt16.self) == UInt16(bytes.count))
    // The router and its kind.
    #expect(Array(bytes[8..<10]) == [0, 8] && view.load(12, as: UInt32.self) == 0x7000_8086)
    // Device 1 has the first register at pin A; device 3's pin C is two devices and two pins further.
    #expect(Array(bytes[32..<38]) == [0, 1 << 3, 0x60, 0x20, 0x0c, 0x61])
    let third = Array(bytes[64..<80])
    #expect(third[1] == 3 << 3 && [2, 5, 8, 11].map { third[$0] } == [0x62, 0x63, 0x60, 0x61])
  }
}
