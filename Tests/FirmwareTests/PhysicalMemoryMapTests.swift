import Memory
import Testing

@testable import Firmware

@Suite struct PhysicalMemoryMapTests {
  private typealias Entry = PhysicalMemoryMap.Entry

  @Test func mapOfASmallGuest() throws {
    let map = PhysicalMemoryMap(try GuestMemory(size: 64 << 20))
    #expect(
      map.entries == [
        Entry(0..<0x9fc00, .ram), Entry(0x9fc00..<0xa0000, .reserved), Entry(0xa0000..<0x100000, .reserved),
        Entry(0x100000..<64 << 20, .ram),
      ])
    #expect(map.loadable == 0x100000..<64 << 20)
  }

  @Test func mapOfALargeGuest() throws {
    let map = PhysicalMemoryMap(try GuestMemory(size: 5 << 30))
    #expect(map.entries.suffix(2) == [Entry(0x100000..<3 << 30, .ram), Entry(4 << 30..<6 << 30, .ram)])
    #expect(map.loadable == 0x100000..<3 << 30)
  }

  @Test func mapOfTheSmallestGuest() throws {
    let map = PhysicalMemoryMap(try GuestMemory(size: 1 << 20))
    #expect(map.entries.last == Entry(0xa0000..<0x100000, .reserved))
    #expect(map.loadable.isEmpty)
  }

  @Test func reservingCutsWhatIsThere() throws {
    var map = PhysicalMemoryMap(try GuestMemory(size: 4 << 20))
    map.reserve(0x200000..<0x201000, as: .acpiReclaimable)
    map.reserve(0x3ff000..<0x500000, as: .acpiNonVolatile)
    map.reserve(0x90000..<0xb0000)
    map.reserve(5..<5)
    #expect(
      map.entries == [
        Entry(0..<0x90000, .ram), Entry(0x90000..<0xb0000, .reserved), Entry(0xb0000..<0x100000, .reserved),
        Entry(0x100000..<0x200000, .ram), Entry(0x200000..<0x201000, .acpiReclaimable),
        Entry(0x201000..<0x3ff000, .ram), Entry(0x3ff000..<0x500000, .acpiNonVolatile),
      ])
  }
}
